package dashboard

import "github.com/inferloom/inferloom/gateway"

type outcome = gateway.Outcome

const (
	answered   = gateway.Answered
	failed     = gateway.Failed
	rejected   = gateway.Rejected
	clientLeft = gateway.ClientLeft
	outcomes   = clientLeft + 1 // how many there are
)

// outcomeCounts is how many requests ended in which way.
type outcomeCounts [outcomes]uint64

func (c *outcomeCounts) total() uint64 {
	var sum uint64
	for _, n := range c {
		sum += n
	}
	return sum
}
