// Package matrix compares scheduling policies in the policy lab, on many workloads at several loads: the tables of
// docs/policies.md.
//
//	scenarios, err := matrix.Scenarios("traces")
//	table, err := matrix.Run(ctx, matrix.Options{Scenarios: scenarios, Policies: policies, Store: "runs.jsonl"})
//	err = table.WriteMarkdown(os.Stdout)
//
// A [Scenario] is a fleet and a workload. Its capacity is the rate that one reference policy just bears, so that it does not
// change with the policy under test. A cell is a scenario at a load, a share of that capacity; in it every policy meets the same
// requests, once for each seed, and differences from the policy under test are taken seed by seed.
//
// Each run is written to a store as it ends, under a key of all that determines it, so a matrix that was interrupted goes on where
// it was, and adding a policy runs that policy only. A store does not know which code it was made with: begin a new one when that
// changes.
package matrix
