package scheduling

// Prediction is how long a request is expected to take on an endpoint. The zero Prediction is none.
type Prediction struct {
	// TTFT and TPOT are in seconds, at the quantile that the predictor goes by; 0 where it does not know.
	TTFT, TPOT float64
	// Meets is the probability that the request meets those of its objectives (Request.TTFT, Request.TPOT) of which there is a
	// prediction, 1 where it has none.
	Meets float64
	// Basis is what the prediction was made from.
	Basis Basis
}

// Known reports whether there is a prediction. It is false of a nil one.
func (p *Prediction) Known() bool { return p != nil && (p.TTFT > 0 || p.TPOT > 0) }

// Basis is what a predictor keeps of a prediction to learn from how it turned out. What the class and the values mean is the
// predictor's.
type Basis struct {
	Slot       Slot
	Generation uint32
	Class      uint32
	Values     [9]float32
}

// Predictor is a Producer that goes by what is in flight as well. Predict runs once an attempt, when the ledger has been read
// and before any filter, and writes Cycle.Predictions of the slots: those that serve what the request asks for. A Producer
// that needs no ledger can write them as it produces.
type Predictor interface {
	Producer
	Predict(c *Cycle, slots []Slot)
}

// Refuser is a Filter that may leave no endpoint on purpose. A pick that it ends fails with Refusal's error in place of
// ErrNoEndpoint; it must not be nil.
type Refuser interface {
	Filter
	Refusal() error
}

// Predictions returns the predictions by slot, for a producer to fill: at the first call of a pick, none is known.
func (c *Cycle) Predictions() []Prediction {
	if len(c.predicted) == 0 {
		c.predicted = resize(c.predicted, c.Snapshot.Len())
		clear(c.predicted)
	}
	return c.predicted
}

// Prediction returns what is predicted for a slot; nil where no producer predicts.
func (c *Cycle) Prediction(slot Slot) *Prediction {
	if len(c.predicted) == 0 {
		return nil
	}
	return &c.predicted[slot]
}

// predict returns what is predicted for one slot.
func (st *stage) predict(c *Cycle, slot Slot) Prediction {
	c.slots = append(c.slots[:0], slot)
	for _, p := range st.predictors {
		p.Predict(c, c.slots)
	}
	if p := c.Prediction(slot); p != nil {
		return *p
	}
	return Prediction{}
}
