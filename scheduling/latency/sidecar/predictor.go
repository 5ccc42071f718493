package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/inferloom/inferloom/scheduling"
)

// Options are the parameters of a Predictor; Pool and Prediction are required.
type Options struct {
	// Pool is the one that is scheduled on, for what is in flight.
	Pool *scheduling.Pool
	// Prediction are the prediction servers' URLs, asked in turn.
	Prediction []string
	// Training is the training server's URL; empty means that nothing is learned.
	Training string
	// Client is for both; nil means one of its own.
	Client *http.Client
	// Timeout bounds what a pick waits; 0 means 100 ms.
	Timeout time.Duration
	// MaxBulk is how many predictions one request may ask for; 0 means 100, the servers' standard.
	MaxBulk int
	// FlushAfter is how long an observation waits for others to be sent with; 0 means a second. MaxSamples go at once; 0 means
	// 1000. Ten times as many wait, and what does not fit is dropped.
	FlushAfter time.Duration
	MaxSamples int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// OnError is told of failures, from several goroutines; nil means nobody.
	OnError func(error)
}

// Predictor asks llm-d's latency predictor. It is safe for concurrent use.
type Predictor struct {
	o       Options
	turn    atomic.Uint64
	entries chan Entry
	dropped atomic.Uint64
}

// New makes a Predictor, or reports every problem with the options.
func New(o Options) (*Predictor, error) {
	var problems []error
	if o.Pool == nil {
		problems = append(problems, errors.New("pool: nil"))
	}
	if len(o.Prediction) == 0 {
		problems = append(problems, errors.New("prediction: no server"))
	}
	check := func(field, server string) {
		if u, err := url.Parse(server); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			problems = append(problems, fmt.Errorf("%s %q: want http://host:port", field, server))
		}
	}
	for i, server := range o.Prediction {
		check(fmt.Sprintf("prediction[%d]", i), server)
	}
	if o.Training != "" {
		check("training", o.Training)
	}
	for _, f := range []struct {
		name string
		v    int64
	}{{"timeout", int64(o.Timeout)}, {"max bulk", int64(o.MaxBulk)}, {"flush after", int64(o.FlushAfter)}, {"max samples", int64(o.MaxSamples)}} {
		if f.v < 0 {
			problems = append(problems, fmt.Errorf("%s %d: negative", f.name, f.v))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	o.Timeout, o.MaxBulk = cmp.Or(o.Timeout, 100*time.Millisecond), cmp.Or(o.MaxBulk, 100)
	o.FlushAfter, o.MaxSamples = cmp.Or(o.FlushAfter, time.Second), cmp.Or(o.MaxSamples, 1000)
	if o.Client == nil {
		o.Client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute}}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	return &Predictor{o: o, entries: make(chan Entry, 10*o.MaxSamples)}, nil
}

// Dropped is how many observations did not fit.
func (p *Predictor) Dropped() uint64 { return p.dropped.Load() }

// Produce implements scheduling.Producer.
func (p *Predictor) Produce(c *scheduling.Cycle) {
	predictions := c.Predictions()
	ctx, cancel := context.WithTimeout(context.Background(), p.o.Timeout)
	defer cancel()
	var slots []scheduling.Slot
	var rows []Features
	for _, slot := range c.Snapshot.Live() {
		if e := c.Endpoint(slot); c.Request.Model == "" || e.Model == "" || e.Model == c.Request.Model {
			slots, rows = append(slots, slot), append(rows, p.features(c, slot))
		}
	}
	for from := 0; from < len(rows); from += p.o.MaxBulk {
		to := min(from+p.o.MaxBulk, len(rows))
		server := p.o.Prediction[(p.turn.Add(1)-1)%uint64(len(p.o.Prediction))]
		answers, err := predict(ctx, p.o.Client, server, rows[from:to])
		if err != nil {
			p.o.OnError(fmt.Errorf("predict latency: %w", err))
			return
		}
		for i, a := range answers {
			at := from + i
			predictions[slots[at]] = prediction(c, slots[at], &rows[at], &a)
		}
	}
}

// features reads what the predictor goes by.
func (p *Predictor) features(c *scheduling.Cycle, slot scheduling.Slot) Features {
	load := p.o.Pool.InFlight(slot)
	f := Features{
		InputTokens: c.PromptTokens, Running: load.Requests, PodType: podType(c.Endpoint(slot).Role),
		PrefillTokens: load.PrefillTokens, DecodeTokens: max(0, load.KVTokens-load.PrefillTokens),
	}
	if used, ok := c.Metric(scheduling.KVUsage).At(slot); ok {
		f.KVCache = min(used, 1)
	}
	if waiting, ok := c.Metric(scheduling.Waiting).At(slot); ok {
		f.Waiting = int(min(waiting, math.MaxInt32))
	}
	if c.PromptTokens > 0 {
		f.PrefixScore = 1 - float64(c.Uncached(slot))/float64(c.PromptTokens)
	}
	return f
}

func podType(role scheduling.Role) string {
	switch role {
	case scheduling.Prefill:
		return "prefill"
	case scheduling.Decode:
		return "decode"
	}
	return ""
}

// prediction is an answer in the scheduler's words. Times that are not positive and finite are not known.
func prediction(c *scheduling.Cycle, slot scheduling.Slot, f *Features, a *Answer) scheduling.Prediction {
	seconds := func(ms float64) float64 {
		if ms > 0 && !math.IsInf(ms, 0) {
			return ms / 1000
		}
		return 0
	}
	p := scheduling.Prediction{TTFT: seconds(a.TTFT), TPOT: seconds(a.TPOT), Meets: 1}
	quantile := a.Quantile
	if !(quantile > 0 && quantile < 1) {
		quantile = .9
	}
	for _, o := range []struct{ objective, predicted float64 }{{c.Request.TTFT.Seconds(), p.TTFT}, {c.Request.TPOT.Seconds(), p.TPOT}} {
		switch {
		case o.objective <= 0 || o.predicted == 0:
		case o.predicted <= o.objective:
			p.Meets *= quantile
		default:
			p.Meets *= 1 - quantile
		}
	}
	p.Basis = scheduling.Basis{Slot: slot, Generation: c.Snapshot.Generation(slot), Class: uint32(c.Endpoint(slot).Role), Values: [9]float32{
		float32(f.KVCache), float32(f.InputTokens), float32(f.Waiting), float32(f.Running), float32(f.PrefixScore),
		float32(f.PrefillTokens), float32(f.DecodeTokens),
	}}
	return p
}

// ObserveTTFT is told how long the first token of a request took for which p was predicted.
func (p *Predictor) ObserveTTFT(of *scheduling.Prediction, took time.Duration) {
	p.observe(of, Entry{TTFT: took.Seconds() * 1000})
}

// ObserveTPOT is told the mean time between the tokens of an answer for which p was predicted.
func (p *Predictor) ObserveTPOT(of *scheduling.Prediction, took time.Duration) {
	p.observe(of, Entry{TPOT: took.Seconds() * 1000})
}

func (p *Predictor) observe(of *scheduling.Prediction, e Entry) {
	if p.o.Training == "" || !of.Known() || e.TTFT < 0 || e.TPOT < 0 || e.TTFT+e.TPOT == 0 {
		return
	}
	v := &of.Basis.Values
	e.Features = Features{
		KVCache: float64(v[0]), InputTokens: int(v[1]), Waiting: int(v[2]), Running: int(v[3]), PrefixScore: float64(v[4]),
		PrefillTokens: int(v[5]), DecodeTokens: int(v[6]), PodType: podType(scheduling.Role(of.Basis.Class)),
	}
	e.At = p.o.Now()
	select {
	case p.entries <- e:
	default:
		p.dropped.Add(1)
	}
}

// Run sends observations until the context ends. What has not been sent then, or could not be, is lost.
func (p *Predictor) Run(ctx context.Context) {
	defer p.o.Client.CloseIdleConnections()
	for {
		var batch []Entry
		select {
		case <-ctx.Done():
			return
		case e := <-p.entries:
			batch = append(batch, e)
		}
		timer := time.NewTimer(p.o.FlushAfter)
	collect:
		for len(batch) < p.o.MaxSamples {
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case e := <-p.entries:
				batch = append(batch, e)
			case <-timer.C:
				break collect
			}
		}
		timer.Stop()
		if err := train(ctx, p.o.Client, p.o.Training, batch); err != nil && ctx.Err() == nil {
			p.o.OnError(fmt.Errorf("train latency: %w", err))
		}
	}
}
