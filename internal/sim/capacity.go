package sim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/inferloom/inferloom/internal/workload"
)

// CapacityOptions are the parameters of FindCapacity. The zero value works.
type CapacityOptions struct {
	// Start is the load factor to begin with; 0 means 1.
	Start float64
	// Precision is how close, relative to it, the capacity is found; 0 means 0.02.
	Precision float64
	// Tolerance is the share of arrivals by which the number of requests under way may grow; 0 means 0.02.
	Tolerance float64
}

// Capacity is the load that a policy can just bear on a fleet.
type Capacity struct {
	// Load is the greatest load factor at which it kept up, and Saturated the least at which it did not.
	Load, Saturated float64
	// Offered and Completed are requests a second in the second half of the run at Load.
	Offered, Completed float64
	// Runs is how many simulations it took.
	Runs int
}

// FindCapacity searches for the load factor at which a configuration saturates. source makes the workload at a load factor,
// as by workload.Scale; it is asked once a run. A run keeps up if in the second half of its arrivals as many requests complete
// as arrive, but for Tolerance: what is under way does not grow. The first half is there to fill caches and batches, so the
// workload must be much longer than a request takes. The drain plays no part.
func FindCapacity(ctx context.Context, c Config, source func(load float64) (workload.Source, error), o CapacityOptions) (Capacity, error) {
	o.Start, o.Precision, o.Tolerance = cmp.Or(o.Start, 1), cmp.Or(o.Precision, 0.02), cmp.Or(o.Tolerance, 0.02)
	if !(o.Start > 0 && o.Precision > 0 && o.Tolerance > 0 && o.Tolerance < 1) {
		return Capacity{}, fmt.Errorf("capacity: Start %v, Precision %v and Tolerance %v must be above zero, and Tolerance below one",
			o.Start, o.Precision, o.Tolerance)
	}
	c.Log, c.Drain = nil, time.Nanosecond
	var found Capacity
	try := func(load float64) (bool, error) {
		var err error
		if c.Workload, err = source(load); err != nil {
			return false, fmt.Errorf("capacity at load %.3g: %w", load, err)
		}
		offered, completed, err := secondHalf(ctx, c)
		if err != nil {
			return false, fmt.Errorf("capacity at load %.3g: %w", load, err)
		}
		found.Runs++
		if completed < offered*(1-o.Tolerance) {
			found.Saturated = load
			return false, nil
		}
		found.Load, found.Offered, found.Completed = load, offered, completed
		return true, nil
	}
	const tries = 20
	for load, n := o.Start, 0; found.Load == 0 || found.Saturated == 0; n++ {
		if n == tries {
			return found, errors.New("capacity: no load from a millionth to a million times Start is borne, or all are")
		}
		keptUp, err := try(load)
		if err != nil {
			return found, err
		}
		if load *= 2; !keptUp {
			load /= 4
		}
	}
	for found.Saturated > found.Load*(1+o.Precision) {
		if _, err := try((found.Load + found.Saturated) / 2); err != nil {
			return found, err
		}
	}
	return found, nil
}

// secondHalf returns how many requests a second arrived and completed in the second half of a run's arrivals.
func secondHalf(ctx context.Context, c Config) (offered, completed float64, err error) {
	type mark struct {
		at                 time.Duration
		arrived, completed int
	}
	marks := []mark{{}}
	result, err := Run(ctx, c, Observer{Sample: func(s *Sample) {
		last := marks[len(marks)-1]
		marks = append(marks, mark{s.At, last.arrived + s.Arrived, last.completed + s.Completed})
	}})
	if err != nil {
		return 0, 0, err
	}
	if len(marks) < 11 {
		return 0, 0, fmt.Errorf("arrivals last %v, want at least ten times SampleEvery", result.LastArrival)
	}
	mid, end := marks[len(marks)/2], marks[len(marks)-1]
	seconds := (end.at - mid.at).Seconds()
	if end.arrived == mid.arrived {
		return 0, 0, errors.New("nothing arrives in the second half")
	}
	return float64(end.arrived-mid.arrived) / seconds, float64(end.completed-mid.completed) / seconds, nil
}
