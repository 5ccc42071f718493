package inferloom_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/inferloom/inferloom"

// cores are the packages that embedders import: beside the standard library they may depend on each other, downwards, and
// on what is listed here.
var cores = map[string][]string{
	"accel": {},

	"scheduling":           {},
	"scheduling/condition": {"scheduling"},
	"scheduling/config": append(slices.Clone(indexMay), "scheduling", "scheduling/condition", "scheduling/filter", "scheduling/picker",
		"scheduling/prefix", "scheduling/scorer", "kvcache"),
	"scheduling/engineevents":  append(slices.Clone(followMay), "kvcache/follow", "scheduling", "scheduling/prefix"),
	"scheduling/enginemetrics": {"scheduling"},
	"scheduling/filter":        {"scheduling"},
	"scheduling/flow":          {"scheduling"},
	"scheduling/scorer":        {"scheduling"},
	"scheduling/picker":        {"scheduling"},
	"scheduling/selectserver":  {"scheduling"},
	"scheduling/shadow":        {"scheduling"},
	"scheduling/replay":        {"scheduling"},
	"scheduling/prefix":        append(slices.Clone(indexMay), "scheduling", "kvcache"),
	"scheduling/policy": append(slices.Clone(indexMay), "scheduling", "scheduling/condition", "scheduling/filter", "scheduling/picker",
		"scheduling/prefix", "scheduling/scorer", "scheduling/latency", "scheduling/latency/llmd", "scheduling/latency/trees", "kvcache", "accel"),

	"scheduling/latency":         {"scheduling", "scheduling/scorer", "scheduling/latency/trees", "accel"},
	"scheduling/latency/llmd":    {"scheduling", "scheduling/latency", "scheduling/scorer", "scheduling/latency/trees", "accel"},
	"scheduling/latency/sidecar": {"scheduling"},
	"scheduling/latency/trees":   {},
	"scheduling/peers":           append(slices.Clone(indexMay), "scheduling", "kvcache"),

	"kvcache":                 indexMay,
	"kvcache/blockhash":       {},
	"kvcache/events":          {"kvcache/events/internal/zmtp"},
	"kvcache/follow":          followMay,
	"kvcache/indexserver":     append(slices.Clone(followMay), "kvcache/follow"),
	"kvcache/redisindex":      {"kvcache/events", "kvcache/events/internal/zmtp"},
	"kvcache/store":           {"kvcache/events", "kvcache/events/internal/zmtp", "accel"},
	"kvcache/store/disk":      levelsMay,
	"kvcache/store/evict":     {},
	"kvcache/store/fs":        levelsMay,
	"kvcache/store/memory":    levelsMay,
	"kvcache/store/peer":      append(slices.Clone(levelsMay), "kvcache/store/peer/pagespb"),
	"kvcache/store/redis":     levelsMay,
	"kvcache/store/resp":      levelsMay,
	"kvcache/store/rest":      levelsMay,
	"kvcache/store/s3":        levelsMay,
	"kvcache/store/storetest": levelsMay,

	"kvcache/store/peer/pagespb": {},
	"kvcache/token":              {},
	"kvcache/token/chat":         {"kvcache/token", "kvcache/token/internal/jinja"},
	"kvcache/token/remote":       {},

	"moe":      {},
	"moe/plan": {"accel", "moe"},
	"moe/emit": {"accel", "moe", "moe/plan"},

	"gateway/api":       {},
	"gateway":           {"gateway/api", "scheduling", "scheduling/flow"},
	"gateway/record":    {"gateway", "gateway/api", "scheduling", "scheduling/flow", "kvcache/blockhash"},
	"gateway/proxy":     {"gateway", "gateway/api", "scheduling", "scheduling/flow"},
	"gateway/dashboard": {"gateway", "gateway/api", "scheduling", "scheduling/flow"},
}

// levelsMay is what a level of the KV store depends on.
var levelsMay = []string{
	"kvcache/store", "kvcache/store/evict", "kvcache/store/internal/frame", "kvcache/store/internal/ledger", "kvcache/store/internal/workers",
	"kvcache/events", "kvcache/events/internal/zmtp", "accel",
}

// indexMay is what the KV index may depend on.
var indexMay = []string{"kvcache/blockhash", "kvcache/events", "kvcache/events/internal/zmtp"}

// followMay is what those depend on who follow engines into the index of what they hold.
var followMay = append(slices.Clone(indexMay), "kvcache")

// libraries may be imported by cores.
var libraries = []string{"github.com/zeebo/xxh3", "github.com/klauspost/cpuid/v2", "github.com/sony/gobreaker/v2", "github.com/google/btree", "go.yaml.in/yaml/v3"}

// leaves are the heavy dependencies, each allowed in the packages whose job it is, with those below them, and in nothing else
// outside examples.
var leaves = map[string][]string{
	"google.golang.org/grpc":                  {"kvcache/store/peer", "kvcache/store/peer/pagespb"},
	"github.com/envoyproxy":                   nil,
	"k8s.io":                                  nil,
	"sigs.k8s.io":                             nil,
	"github.com/redis":                        {"kvcache/store/redis", "kvcache/redisindex"},
	"github.com/minio":                        {"kvcache/store/s3"},
	"github.com/prometheus":                   nil,
	"go.opentelemetry.io":                     nil,
	"github.com/hashicorp/memberlist":         {"scheduling/peers"},
	"go.yaml.in/yaml/v3":                      {"scheduling/config"},
	"github.com/sony/gobreaker/v2":            {"kvcache/token/remote", "kvcache/store"},
	"github.com/stretchr/testify":             {"internal/testenv"},
	"github.com/google/go-cmp":                nil,
	"go.uber.org/goleak":                      nil,
	"pgregory.net/rapid":                      nil,
	"github.com/inferloom/inferloom/examples": nil,
}

type pkg struct {
	ImportPath string
	Standard   bool
	Deps       []string
}

// list returns the module's packages, and which of all their dependencies are of the standard library.
func list(t *testing.T) (own []pkg, standard map[string]bool) {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Deps", "./...").Output()
	require.NoError(t, err)
	standard = map[string]bool{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return own, standard
		}
		require.NoError(t, err)
		standard[p.ImportPath] = p.Standard
		if within(p.ImportPath, module) {
			own = append(own, p)
		}
	}
}

// hasLeaf reports whether a package has a heavy dependency of its own.
func hasLeaf(name string) bool {
	for leaf, homes := range leaves {
		if slices.Contains(homes, name) && !slices.Contains(libraries, leaf) {
			return true
		}
	}
	return false
}

func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

func TestImportRules(t *testing.T) {
	own, standard := list(t)
	seen := map[string]bool{}
	for _, p := range own {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		seen[name] = true
		for _, dep := range p.Deps {
			if standard[dep] {
				continue
			}
			for leaf, homes := range leaves {
				if within(dep, leaf) && !slices.ContainsFunc(homes, func(home string) bool { return within(name, home) }) && !strings.HasPrefix(name, "examples/") {
					t.Errorf("%s depends on %s", name, dep)
				}
			}
			below, core := cores[name]
			if !core {
				continue
			}
			if within(dep, module) {
				if !slices.Contains(below, strings.TrimPrefix(dep, module+"/")) {
					t.Errorf("%s must not depend on %s: imports go downwards only", name, dep)
				}
			} else if !hasLeaf(name) && !slices.ContainsFunc(libraries, func(l string) bool { return within(dep, l) }) {
				t.Errorf("%s depends on %s, which is no library for a core package", name, dep)
			}
		}
	}
	for _, p := range own {
		name := strings.TrimPrefix(p.ImportPath, module+"/")
		root, _, _ := strings.Cut(name, "/")
		outside := slices.Contains([]string{"examples", "e2e"}, root) || strings.Contains("/"+name+"/", "/internal/")
		if _, core := cores[name]; !core && p.ImportPath != module && !outside {
			t.Errorf("%s is not in the list of cores: say what it may depend on", name)
		}
	}
	require.True(t, seen["scheduling"] && seen["gateway/proxy"], "go list has found the packages")
}
