// Command replay asks another plan what it would have chosen, in place of the one whose choices were recorded (package
// scheduling/replay; examples/embed/selectserver records with -record).
//
//	go run ./examples/replay -preset llm-d decisions.jsonl
//	go run ./examples/replay -config next.yaml -json decisions.jsonl
//
// It says how many choices would have been the same, how much the others regret, and where requests would have gone. A recording
// that is cut short, or compressed with gzip, is read as well.
package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/inferloom/inferloom/examples/internal/program"
	"github.com/inferloom/inferloom/scheduling/config"
	"github.com/inferloom/inferloom/scheduling/replay"
)

func main() { program.Main("replay", run) }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	set := flag.NewFlagSet("replay", flag.ContinueOnError)
	set.SetOutput(stderr)
	path := set.String("config", "", "a YAML `file` with the plan to ask, llm-d's or ours")
	preset := set.String("preset", "default", fmt.Sprintf("the plan where there is no -config: one of %q", config.Presets()))
	asJSON := set.Bool("json", false, "write the report as JSON")
	differences := set.Int("differences", replay.DefaultDifferences, "how many differing choices to show, the first ones")
	if err := set.Parse(args); err != nil {
		return program.UsageError{Err: err}
	}
	if set.NArg() != 1 {
		return program.UsageError{Err: fmt.Errorf("%d recordings named: want one", set.NArg())}
	}
	plan, err := program.LoadPlan(*path, *preset)
	if err != nil {
		return program.UsageError{Err: err}
	}
	file, err := os.Open(set.Arg(0))
	if err != nil {
		return program.UsageError{Err: err}
	}
	defer file.Close()
	recording, err := plain(file)
	if err != nil {
		return program.UsageError{Err: fmt.Errorf("%s: %w", set.Arg(0), err)}
	}
	o := replay.Options{Plan: plan.Options, Differences: *differences}
	if o.Differences == 0 {
		o.Differences = -1
	}
	report, err := replay.Run(ctx, replay.NewReader(recording), o)
	if err != nil {
		return fmt.Errorf("%s: %w", set.Arg(0), err)
	}
	if *asJSON {
		out := json.NewEncoder(stdout)
		out.SetIndent("", "  ")
		return out.Encode(report)
	}
	fmt.Fprint(stdout, report)
	for _, d := range report.Differences {
		fmt.Fprintf(stdout, "choice %d: %s was chosen with %d of %d tokens cached; ", d.Choice, d.Recorded, d.RecordedCached, d.Tokens)
		switch {
		case d.Err != "":
			fmt.Fprintln(stdout, d.Err)
		case d.Plan == "":
			fmt.Fprintln(stdout, "the plan would have done without the stage")
		case d.Removed:
			fmt.Fprintf(stdout, "the plan removes it, and chooses %s with %d cached\n", d.Plan, d.PlanCached)
		default:
			fmt.Fprintf(stdout, "the plan chooses %s with %d cached, %.3f to %.3f\n", d.Plan, d.PlanCached, d.PlanScore, d.KeptScore)
		}
	}
	return nil
}

// plain is what a file has, decompressed if need be.
func plain(file io.Reader) (io.Reader, error) {
	b := bufio.NewReader(file)
	if magic, _ := b.Peek(2); string(magic) == "\x1f\x8b" {
		return gzip.NewReader(b)
	}
	return b, nil
}
