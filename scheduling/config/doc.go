// Package config reads a scheduler's profile or stages from YAML, and keeps a running scheduler going by a file.
//
//	loader := &config.Loader{}
//	plan, err := loader.LoadFile("scheduling.yaml")
//	sched, err := scheduling.New(pool, plan.Options)
//	go config.Follow(ctx, sched, plan, config.FollowOptions{Path: "scheduling.yaml", Loader: loader})
//
// There are two forms. Our own is scheduling.Options as YAML; a plugin is the name of its type, or fields of which one is its
// type and the others its parameters:
//
//	profile:
//	  producers: [prefix]
//	  filters: [overload]
//	  scorers:
//	    - {type: prefix, weight: 3}
//	    - {type: in-flight-tokens, weight: 4, halfAt: 8192}
//
// or the name of one that comes with the package ([Presets]):
//
//	preset: default
//
// The other form is llm-d's EndpointPickerConfig, told by its kind: plugins, schedulingProfiles and feature gates, with llm-d's
// standard values, for the plugin types of [Loader.Types] and those of llm-d, which become plugins of ours of the same
// formulas. Where endpoints have llm-d's role label, that counts.
//
// # What is guaranteed
//
//   - Everything that is wrong is reported at once, with its path and mostly its line. Unknown fields, types and references
//     are errors, and so is whatever is not scheduling's and would change what happens to requests: nothing is passed over.
//     What else is not scheduling's is in Plan.External, and what is not quite as asked in Plan.Notes.
//   - A change is one step ([scheduling.Scheduler.Swap]). Plugins of the same name, type and parameters stay the same, with all they
//     have learned; those whose parameters change take over what they can.
//   - A plugin's exported fields are its parameters, by their json tags. No type is registered globally: a Loader has its
//     own.
//
// # Caveats
//
// Weights of llm-d's files are relative here, and metrics that are missing are abstained from in place of counting as 0; the
// guide docs/config.md lists all differences.
package config
