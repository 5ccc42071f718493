package program

import "github.com/inferloom/inferloom/scheduling/config"

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
