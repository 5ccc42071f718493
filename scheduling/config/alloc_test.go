//go:build !race

// The race detector makes sync.Pool drop what it is given, at random.

package config_test

import (
	"context"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/inferloom/inferloom/scheduling"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/prefix"
)

func TestPicksOfPlansDoNotAllocate(t *testing.T) {
	texts := map[string]string{
		"sessions": header + "plugins: [{type: session-affinity-filter}, {type: session-affinity-scorer, parameters: {strategy: session_id}}]",
		"profiles by header": header + `plugins: [{type: header-profile-handler}, {type: decode-filter}, {type: queue-scorer}, {type: prefix-cache-scorer}]
schedulingProfiles: [{name: decode, plugins: [{pluginRef: decode-filter}, {pluginRef: queue-scorer}, {pluginRef: prefix-cache-scorer}]}, {name: prefill}]`,
	}
	for _, name := range config.Presets() {
		texts[name], _ = config.Preset(name)
	}
	loader := &config.Loader{Index: prefix.Options{MaxBytes: 4 << 20}, Attributes: map[string]scheduling.Metric{"GPUUtilization": scheduling.Custom(0)}}
	token := base64.StdEncoding.EncodeToString([]byte("e3"))
	for name, text := range texts {
		plan, err := loader.Load([]byte(text))
		require.NoError(t, err, name)
		s, err := scheduling.New(newPool(t, 20), plan.Options)
		require.NoError(t, err)
		request := &scheduling.Request{
			Model: "m", Prompt: scheduling.Prompt{Text: make([]byte, 10_000)}, Modality: scheduling.Image, Media: []scheduling.Media{{Hash: 1, Size: 1}},
			Header: func(name string) string {
				if name == "EPP-Profile" {
					return ""
				}
				return token
			},
		}
		require.Zero(t, testing.AllocsPerRun(300, func() {
			d, err := s.Pick(context.Background(), request)
			if err != nil {
				t.Fatal(err)
			}
			d.Done()
		}), name)
	}
}
