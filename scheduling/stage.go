package scheduling

// Stage is one leg of a request: its encoding, prefill or decode, say. Names mean nothing to the scheduler.
//
// The first of Options.Stages is the primary one: it always runs, the Decision is for its endpoint, and it does whatever no
// other stage takes over. Where the list says nothing else by After, stages run in its order.
type Stage struct {
	// Name is unique in the scheduler.
	Name string `json:"name"`
	// Profile chooses the endpoint. Producers that several stages have, the same values in the same order, run once a pick.
	Profile Profile `json:"profile,omitzero"`
	// After names the stages that are chosen before this one. Cycle.Peer is the choice of the first of them that ran.
	After []string `json:"after,omitempty"`
	// When says whether the stage runs for a request; nil means always. It must be nil for the primary stage.
	When Condition `json:"when,omitempty"`
	// Optional lets the request do without the stage where it finds no endpoint; else the pick fails. The primary stage
	// cannot be optional.
	Optional bool `json:"optional,omitempty"`
	// Takes is which phases the stage takes over from the primary one, and so what its endpoint is charged with: one that
	// takes Prefill the uncached tokens of the prompt and its KV memory, one that takes Decode the KV memory, any other the
	// request alone. An endpoint of the primary stage is charged with the prompt's KV memory, and with its prefill where no
	// stage took that.
	Takes Role `json:"takes,omitempty"`
}

// Condition decides whether a stage runs. It is asked after the stages that the stage comes after have been chosen, and
// before its own producers run. It must be safe for concurrent use.
type Condition interface {
	Holds(c *Cycle) bool
}

// Choice is what a stage chose.
type Choice struct {
	Endpoint *Endpoint
	Slot     Slot
	// CachedTokens is how much of the prompt the endpoint is believed to have cached.
	CachedTokens int
}

// Chosen returns the choice of a stage that has run.
func (c *Cycle) Chosen(stage string) (Choice, bool) {
	for i := range c.legs {
		if c.legs[i].stage.name == stage {
			return c.legs[i].choice(), true
		}
	}
	return Choice{}, false
}

// Last returns the choice of the stage that ran last.
func (c *Cycle) Last() (Choice, bool) {
	if len(c.legs) == 0 {
		return Choice{}, false
	}
	return c.legs[len(c.legs)-1].choice(), true
}

// leg is what a stage chose, and what it was charged while the pick runs.
type leg struct {
	stage *stage
	ranking
	score       float64
	source      Source
	predicted   Prediction
	charge      charge
	explanation *Explanation
}

func (l *leg) choice() Choice {
	p := &l.places[0]
	return Choice{p.endpoint, p.slot, int(p.cached)}
}

// enter sets up a cycle for a stage, except for what its producers make.
func (c *Cycle) enter(st *stage) {
	c.stage = st
	c.Peer = c.Request.Peer
	for _, earlier := range st.after {
		for i := range c.legs {
			if c.legs[i].stage.index == earlier {
				c.Peer = c.legs[i].places[0].endpoint
				return
			}
		}
	}
}

// prefillTaken reports whether a stage that takes the prefill has chosen.
func (c *Cycle) prefillTaken() bool {
	for i := range c.legs {
		if c.legs[i].stage.takes&Prefill != 0 {
			return true
		}
	}
	return false
}
