package accel

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

//go:embed known.txt
var knownModels string

// ErrUnknownModel is wrapped by what [LookupModel] returns for a name that it does not have.
var ErrUnknownModel = errors.New("unknown model")

// KnownModels are the Hugging Face ids that [LookupModel] knows, sorted.
func KnownModels() []string {
	var ids []string
	for line := range strings.Lines(knownModels) {
		if id, _, ok := knownLine(line); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// knownLine splits a line into a model's id and the rest.
func knownLine(line string) (id, rest string, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", false
	}
	i := strings.IndexAny(line, ": ")
	return line[:i], line[i:], true
}

// LookupModel returns a model by its Hugging Face id, whatever the case of letters; the part before the slash can be left
// out where that is not ambiguous. An unknown name gets an error that wraps [ErrUnknownModel] and lists near ones.
func LookupModel(id string) (*Model, error) {
	for line := range strings.Lines(knownModels) {
		name, rest, ok := knownLine(line)
		if !ok || !strings.EqualFold(name, id) {
			continue
		}
		base, derived := strings.CutPrefix(rest, " = ")
		if !derived {
			return parseKnown(name, strings.Fields(rest[1:]))
		}
		words := strings.Fields(base)
		m, err := LookupModel(words[0])
		if err != nil {
			return nil, err
		}
		m.Name = name
		if len(words) > 1 {
			m.Checkpoint, err = knownPrecision(words[1:])
		}
		return m, err
	}
	if !strings.Contains(id, "/") {
		var found []string
		for _, name := range KnownModels() {
			if _, short, _ := strings.Cut(name, "/"); strings.EqualFold(short, id) {
				found = append(found, name)
			}
		}
		if len(found) == 1 {
			return LookupModel(found[0])
		}
	}
	return nil, fmt.Errorf("%w %q: near names are %s; read its config.json with ParseModel", ErrUnknownModel, id,
		strings.Join(nearest(id, KnownModels(), 3), ", "))
}

func parseKnown(name string, words []string) (*Model, error) {
	values := map[string]any{"architectures": []any{words[0]}, "torch_dtype": "bfloat16"}
	var precision []string
	for _, w := range words[1:] {
		key, v, _ := strings.Cut(w, "=")
		switch {
		case slices.Contains([]string{"weights", "attention", "experts", "kv"}, key):
			precision = append(precision, w)
		case v == "true" || v == "false":
			values[key] = v == "true"
		default:
			if _, err := strconv.Atoi(v); err == nil {
				values[key] = json.Number(v)
			} else {
				values[key] = v
			}
		}
	}
	m, err := modelOf(name, values)
	if err != nil {
		return nil, err
	}
	if len(precision) > 0 {
		m.Checkpoint, err = knownPrecision(precision)
	}
	return m, err
}

func knownPrecision(words []string) (Precision, error) {
	p := Precision{Weights: BF16, Embed: BF16}
	for _, w := range words {
		key, v, _ := strings.Cut(w, "=")
		d, err := ParseDType(v)
		if err != nil {
			return p, err
		}
		switch key {
		case "weights":
			p.Weights = d
		case "attention":
			p.Attention = d
		case "experts":
			p.Experts = d
		case "kv":
			p.KV = d
		}
	}
	return p, nil
}

// nearest are the n names that are closest to one by edit distance, after the slash if it has none. The beginning of a name
// counts as nearly the name: b2000 is close to b200-sxm.
func nearest(name string, names []string, n int) []string {
	const longest = 100
	distance := func(other string) int {
		a, b := strings.ToLower(name), strings.ToLower(other)
		if !strings.Contains(a, "/") {
			_, b, _ = strings.Cut("/"+b, "/")
			if _, short, ok := strings.Cut(b, "/"); ok {
				b = short
			}
		}
		a, b = a[:min(len(a), longest)], b[:min(len(b), longest)]
		return min(edits(a, b), edits(a, b[:min(len(b), len(a))])+1)
	}
	names = slices.Clone(names)
	slices.SortStableFunc(names, func(a, b string) int { return distance(a) - distance(b) })
	return names[:min(n, len(names))]
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := corner
			if a[i] != b[j] {
				cost++
			}
			corner = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
