// Command planner says how to deploy a model on a number of accelerators, and what to expect of it:
//
//	go run ./examples/planner -model deepseek-ai/DeepSeek-R1 -accelerator b200 -count 32 -isl 1000 -osl 1000 -ttft 2s -tpot 50ms
//	go run ./examples/planner -config config.json -accelerator h200 -count 8 -rate 4 -price 3.50
//	go run ./examples/planner -model deepseek-ai/DeepSeek-R1 -accelerator h100 -count 96 -prefill 32 -engine sglang -emit disaggregatedset
//	go run ./examples/planner -model Qwen/Qwen3-30B-A3B -accelerator h200 -count 8 -dp 8 -ep 8 -redundant 16 -placement loads.json -svg plan.svg
//
// It prints the best plans as a table with ranges, what limits each, memory and cost; -json prints the same for programs. -emit
// writes what engines or Kubernetes need instead. With -placement, the tokens that each expert got, it also says which rank
// holds which expert, how balanced that is and what the loss of each rank or node would mean; with -previous it moves as
// little as pays. -svg draws ranks, memory, experts and links.
//
// Models come by name or from a Hugging Face config.json, accelerators from the built-in catalogue or, with -accelerators, from
// a file of your own in its form. Prices are yours.
package main

import (
	"io"
	"os"

	"github.com/inferloom/inferloom/examples/internal/program"
)

func main() { program.Exit("planner", run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	a, err := c.answer()
	if err != nil {
		return err
	}
	if c.svg != "" {
		if err := os.WriteFile(c.svg, a.draw(), 0o644); err != nil {
			return err
		}
	}
	switch {
	case c.emit != "":
		out, err := a.emit()
		if err != nil {
			return err
		}
		_, err = stdout.Write(out)
		return err
	case c.json:
		return a.printJSON(stdout)
	}
	return a.printText(stdout)
}
