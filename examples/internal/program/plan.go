package program

import (
	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/policy"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

// LoadPlan reads a scheduler's configuration from a file, or the preset of a name where there is no file.
func LoadPlan(path, preset string) (*config.Plan, error) {
	loader := new(config.Loader)
	if path != "" {
		return loader.LoadFile(path)
	}
	text, err := config.Preset(preset)
	if err != nil {
		return nil, err
	}
	return loader.Load([]byte(text))
}

// NewScheduler is our default policy over engines of one model, which may be empty, at the addresses.
func NewScheduler(model string, addresses []string) (*scheduling.Scheduler, error) {
	var endpoints []scheduling.Endpoint
	for _, address := range addresses {
		endpoints = append(endpoints, scheduling.Endpoint{Address: address, Model: model})
	}
	pool, err := scheduling.NewPool(scheduling.PoolOptions{Endpoints: endpoints})
	if err != nil {
		return nil, err
	}
	index, err := prefix.New(prefix.Options{})
	if err != nil {
		return nil, err
	}
	return scheduling.New(pool, scheduling.Options{Profile: policy.Default(index)})
}
