// Command fit makes the calibration table of package accel from measurements of the aiconfigurator project, and evaluates
// how well such fits do on what they have not seen.
//
//	go run ./accel/internal/fit -csv silicon_sample.csv -o accel/calibration.txt
//	go run ./accel/internal/fit -csv silicon_sample.csv -evaluate
//	go run ./accel/internal/fit -csv other.csv -score
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/accel"
)

const provenance = `# Fitted to measurements published by the aiconfigurator project of NVIDIA (github.com/ai-dynamo/aiconfigurator,
# silicon_sample.csv, Apache License 2.0), of which this table holds no row. Made by
#   go run ./accel/internal/fit -csv silicon_sample.csv -o accel/calibration.txt
#
`

func main() {
	file := flag.String("csv", "", "measurements")
	out := flag.String("o", "", "where the table goes")
	evaluate := flag.Bool("evaluate", false, "print errors of fits on what they have not seen")
	seeds := flag.Int("splits", 5, "how many splits to evaluate on")
	score := flag.Bool("score", false, "print errors of the built-in table, which should not have seen the file")
	flag.Parse()
	if err := run(*file, *out, *evaluate, *seeds, *score); err != nil {
		fmt.Fprintln(os.Stderr, "fit:", err)
		os.Exit(1)
	}
}

func run(file, out string, evaluate bool, seeds int, score bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	all, dropped, err := read(f)
	if err != nil {
		return err
	}
	configs := map[string]bool{}
	for _, m := range all {
		configs[m.config] = true
	}
	fmt.Fprintf(os.Stderr, "%d measurements of %d configurations; left out:\n", len(all), len(configs))
	for _, why := range slices.Sorted(maps.Keys(dropped)) {
		fmt.Fprintf(os.Stderr, "  %d %s\n", dropped[why], why)
	}
	if score {
		fmt.Printf("Built-in table\n\n%s", tableHead)
		if _, err := plain(os.Stdout, "aggregated", accel.Calibrated(), all); err != nil {
			return err
		}
		return disaggregated(os.Stdout, file)
	}
	if evaluate {
		if _, err := splits(os.Stdout, all, seeds); err != nil {
			return err
		}
		fmt.Printf("\nNothing held out\n\n%s", tableHead)
		if err := peak(os.Stdout, all); err != nil {
			return err
		}
		if _, err := plain(os.Stdout, "factors that parts usually have", accel.Uncalibrated(), all); err != nil {
			return err
		}
		if err := leaveOut(os.Stdout, "Models held out", all, func(m measurement) string { return m.model }); err != nil {
			return err
		}
		return leaveOut(os.Stdout, "Systems held out", all, func(m measurement) string { return m.Deployment.System.Name })
	}
	c, err := accel.Fit(points(all))
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(provenance)
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	return os.WriteFile(out, []byte(b.String()), 0o644)
}
