package accel

import (
	"bufio"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed calibration.txt
var builtinCalibration string

// Calibrated is fitted to public measurements of vLLM, SGLang and TensorRT-LLM on H100, H200, B200 and B300 boards; see
// docs/performance-model.md for how far to trust it.
func Calibrated() *Calibration { return calibrated() }

var calibrated = sync.OnceValue(func() *Calibration {
	c, err := ReadCalibration(strings.NewReader(builtinCalibration))
	if err != nil {
		panic(err) // a test reads it
	}
	return c
})

// text is a key as the table has it: engine, system, shape, type of weights and cut, "-" for what it does not depend on.
func (k effectKey) text() string {
	words := []string{"-", "-", "-", "-", "-"}
	if k.level != levelModel && k.level != levelCut {
		words[0] = k.engine.String()
	}
	if k.system != "" {
		words[1] = k.system
	}
	if s := k.shape; s != (shapeKey{}) {
		words[2] = fmt.Sprintf("%dx%d/%d/%d", s.hidden, s.layers, s.vocab, s.experts)
	}
	if k.weight != Unset {
		words[3] = k.weight.String()
	}
	if c := k.cut; c != (cutKey{}) {
		words[4] = fmt.Sprintf("%d/%d/%d", c.tp, c.dp, c.ep)
	}
	return strings.Join(words, " ")
}

// parseKey reads what text writes.
func parseKey(words []string) (effectKey, error) {
	var k effectKey
	var has [5]bool
	for i, w := range words {
		has[i] = w != "-"
	}
	bad := &FieldError{Field: "key", Value: strings.Join(words, " "), Want: "must be engine, system, shape, type of weights and cut"}
	switch has {
	case [5]bool{true}:
		k.level = levelEngine
	case [5]bool{false, false, true}:
		k.level = levelModel
	case [5]bool{4: true}:
		k.level = levelCut
	case [5]bool{true, true}:
		k.level = levelPair
	case [5]bool{true, true, true, true}:
		k.level = levelQuantised
	case [5]bool{true, true, true, true, true}:
		k.level = levelDeployment
	default:
		return k, bad
	}
	if has[0] {
		i := slices.Index(engines[:], words[0])
		if i < 0 {
			return k, bad
		}
		k.engine = Engine(i)
	}
	if has[1] {
		k.system = words[1]
	}
	if has[2] {
		s := &k.shape
		if n, err := fmt.Sscanf(words[2], "%dx%d/%d/%d", &s.hidden, &s.layers, &s.vocab, &s.experts); err != nil || n != 4 ||
			min(s.hidden, s.layers, s.vocab) < 1 || s.experts < 0 {
			return k, bad
		}
	}
	if has[3] {
		var err error
		if k.weight, err = ParseDType(words[3]); err != nil {
			return k, err
		}
	}
	if has[4] {
		c := &k.cut
		if n, err := fmt.Sscanf(words[4], "%d/%d/%d", &c.tp, &c.dp, &c.ep); err != nil || n != 3 || min(c.tp, c.dp, c.ep) < 1 {
			return k, bad
		}
	}
	return k, nil
}

const tableHeader = `# Calibration of the performance model: natural logs of factors, with what they apply to.
#   base    what a part of a time takes, of what it would at peak rates
#   effect  correction for an engine, a system, a model's shape (hidden x layers / vocabulary / experts), a type of weights and
#           how the model is cut (TP/DP/EP); "-" where it does not depend on one
#   spread  bounds of 90 % of measured over estimated, by how much is known
`

// WriteTo writes the calibration as text that [ReadCalibration] reads. Factors are rounded to a hundredth.
func (c *Calibration) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	b.WriteString(tableHeader)
	c.tpot.write(&b, "tpot", outParts[:])
	c.ttft.write(&b, "ttft", inParts[:])
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

func (f *fit) write(b *strings.Builder, quantity string, parts []part) {
	fmt.Fprintf(b, "%s base", quantity)
	for i, p := range parts {
		fmt.Fprintf(b, " %s=%s", p.name, number(f.base[i]))
	}
	b.WriteByte('\n')
	for _, k := range slices.SortedFunc(maps.Keys(f.spreads), spreadKey.compare) {
		s := f.spreads[k]
		engine, system := "-", "-"
		if k.system != "" {
			engine, system = k.engine.String(), k.system
		}
		fmt.Fprintf(b, "%s spread %s %s %s low=%s high=%s\n", quantity, k.evidence, engine, system, number(s.low), number(s.high))
	}
	for _, k := range slices.SortedFunc(maps.Keys(f.effects), func(x, y effectKey) int {
		if x.level != y.level {
			return int(x.level) - int(y.level)
		}
		return x.compare(y)
	}) {
		e := f.effects[k]
		fmt.Fprintf(b, "%s effect %s points=%d", quantity, k.text(), e.points)
		for i, v := range e.families {
			if s := number(v); s != "0" {
				fmt.Fprintf(b, " %s=%s", familyNames[i], s)
			}
		}
		for i, v := range e.features {
			if s := number(v); s != "0" {
				fmt.Fprintf(b, " %s=%s", featureNames[i], s)
			}
		}
		b.WriteByte('\n')
	}
}

func (k spreadKey) compare(o spreadKey) int {
	if k.evidence != o.evidence {
		return int(k.evidence) - int(o.evidence)
	}
	if k.engine != o.engine {
		return int(k.engine) - int(o.engine)
	}
	return strings.Compare(k.system, o.system)
}

func number(v float64) string {
	v = math.Round(v*100) / 100
	if v == 0 {
		return "0"
	}
	return strconv.FormatFloat(v, 'f', -1, 64)
}

// ReadCalibration reads what [Calibration.WriteTo] writes. Lines that are empty or start with "#" are passed over.
func ReadCalibration(r io.Reader) (*Calibration, error) {
	c := Uncalibrated()
	s := bufio.NewScanner(r)
	for n := 1; s.Scan(); n++ {
		words := strings.Fields(s.Text())
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		if err := c.parse(words); err != nil {
			return nil, fmt.Errorf("calibration, line %d: %w", n, err)
		}
	}
	return c.sealed(), s.Err()
}

func (c *Calibration) parse(words []string) error {
	f, parts := &c.tpot, outParts[:]
	switch words[0] {
	case "tpot":
	case "ttft":
		f, parts = &c.ttft, inParts[:]
	default:
		return &FieldError{Field: "quantity", Value: words[0], Want: "must be tpot or ttft"}
	}
	if len(words) < 2 {
		return &FieldError{Field: "line", Value: words[0], Want: "must go on with base, effect or spread"}
	}
	rest := words[2:]
	switch {
	case words[1] == "base":
		return assignments(rest, func(name string, v float64) bool {
			i := slices.IndexFunc(parts, func(p part) bool { return p.name == name })
			if i >= 0 {
				f.set(i, v)
			}
			return i >= 0
		})
	case words[1] == "spread" && len(rest) == 5:
		return f.parseSpread(rest)
	case words[1] == "effect" && len(rest) > 5:
		return f.parseEffect(rest)
	}
	return &FieldError{Field: "line", Value: strings.Join(words, " "), Want: "must be a base, an effect of a key, or a spread with bounds"}
}

func (f *fit) parseSpread(words []string) error {
	k := spreadKey{}
	i := slices.Index(evidenceNames[:], words[0])
	if i < 0 {
		return &FieldError{Field: "evidence", Value: words[0], Want: "must be one of " + strings.Join(evidenceNames[:], ", ")}
	}
	k.evidence = Evidence(i)
	if words[2] != "-" {
		e := slices.Index(engines[:], words[1])
		if e < 0 {
			return &FieldError{Field: "engine", Value: words[1], Want: "must be one of " + strings.Join(engines[:], ", ")}
		}
		k.engine, k.system = Engine(e), words[2]
	}
	var s spread
	err := assignments(words[3:], func(name string, v float64) bool {
		switch name {
		case "low":
			s.low = min(v, 0)
		case "high":
			s.high = max(v, 0)
		default:
			return false
		}
		return true
	})
	if f.spreads == nil {
		f.spreads = map[spreadKey]spread{}
	}
	f.spreads[k] = s
	return err
}

func (f *fit) parseEffect(words []string) error {
	k, err := parseKey(words[:5])
	if err != nil {
		return err
	}
	e := &effect{}
	if f.effects == nil {
		f.effects = map[effectKey]*effect{}
	}
	f.effects[k] = e
	return assignments(words[5:], func(name string, v float64) bool {
		if name == "points" {
			e.points = int(v)
			return v >= 0 && v < 1e9
		}
		if i := slices.Index(familyNames[:], name); i >= 0 {
			e.families[i] = v
			return true
		}
		i := slices.Index(featureNames[:], name)
		if i >= 0 {
			e.features[i] = v
		}
		return i >= 0
	})
}

// assignments reads name=value words; assign says whether it knows a name.
func assignments(words []string, assign func(name string, v float64) bool) error {
	for _, w := range words {
		name, text, _ := strings.Cut(w, "=")
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(v) || math.Abs(v) > 1e9 {
			return &FieldError{Field: name, Value: text, Want: "must be a number"}
		}
		if !assign(name, v) {
			return &FieldError{Field: name, Value: v, Want: "is not known here, or out of range"}
		}
	}
	return nil
}
