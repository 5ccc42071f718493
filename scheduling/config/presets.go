package config

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed presets/*.yaml
var presets embed.FS

// Presets returns the names of the configurations that come with the package.
func Presets() []string {
	entries, _ := presets.ReadDir("presets") // it is compiled in
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Preset returns the text of a configuration that comes with the package.
func Preset(name string) (string, error) {
	text, err := presets.ReadFile("presets/" + name + ".yaml")
	if err != nil {
		return "", fmt.Errorf("%q is no preset: want one of %s", name, strings.Join(Presets(), ", "))
	}
	return string(text), nil
}
