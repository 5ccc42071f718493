// Package condition has the built-in conditions under which a stage of a request runs. Their exported fields are their
// parameters.
package condition

import (
	"errors"
	"fmt"

	"github.com/inferloom/inferloom/scheduling"
)

// Uncached holds for prompts of which enough is not cached where an earlier stage sends them: for a prefill elsewhere that is
// worth a transfer. It is llm-d's prefix-based-pd-decider, whose nonCachedTokens of 0 is Never here.
type Uncached struct {
	// Tokens is the least that must not be cached, and PromptTokens the least length of the prompt.
	Tokens       int `json:"nonCachedTokens,omitempty"`
	PromptTokens int `json:"promptTokens,omitempty"`
	// Stage is the earlier stage whose choice counts; empty means the one that ran last. Where it did not run, nothing counts
	// as cached.
	Stage string `json:"stage,omitempty"`
}

// Holds implements scheduling.Condition.
func (u Uncached) Holds(c *scheduling.Cycle) bool {
	choice, ok := c.Chosen(u.Stage)
	if u.Stage == "" {
		choice, ok = c.Last()
	}
	cached := 0
	if ok {
		cached = choice.CachedTokens
	}
	return c.PromptTokens >= u.PromptTokens && c.PromptTokens-cached >= u.Tokens
}

// Validate implements scheduling.Validator.
func (u Uncached) Validate() error {
	var problems []error
	if u.Tokens < 0 {
		problems = append(problems, fmt.Errorf("nonCachedTokens %d: negative", u.Tokens))
	}
	if u.PromptTokens < 0 {
		problems = append(problems, fmt.Errorf("promptTokens %d: negative", u.PromptTokens))
	}
	return errors.Join(problems...)
}

// Media holds for requests with images, sounds or films. It is llm-d's always-disagg-multimodal-decider.
type Media struct{}

// Holds implements scheduling.Condition.
func (Media) Holds(c *scheduling.Cycle) bool {
	return c.Request.Modality != 0 || len(c.Request.Media) > 0
}

// Never does not hold.
type Never struct{}

// Holds implements scheduling.Condition.
func (Never) Holds(*scheduling.Cycle) bool { return false }
