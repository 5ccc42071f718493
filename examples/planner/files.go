package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"

	"github.com/inferloom/inferloom/accel"
	"github.com/inferloom/inferloom/moe"
)

// withExperts are a model's layers that have experts, by number.
func withExperts(m *accel.Model) []int {
	var out []int
	for i, k := range m.Pattern {
		if m.Kinds[k].FFN.Experts > 0 {
			out = append(out, i)
		}
	}
	return out
}

// rowsOf picks a model's layers with experts out of rows that are for those or for all layers.
func rowsOf[T any](m *accel.Model, field string, rows [][]T) ([][]T, error) {
	layers := withExperts(m)
	switch len(rows) {
	case len(layers):
		return rows, nil
	case m.Layers():
		out := make([][]T, len(layers))
		for i, l := range layers {
			out[i] = rows[l]
		}
		return out, nil
	}
	return nil, fmt.Errorf("%s has %d rows, must have one for each of the %d layers with experts of %s, or of all %d", field, len(rows), len(layers), m.Name, m.Layers())
}

// readLoads reads rows of numbers, or an object with them as "loads" or, as SGLang dumps them, "logical_count".
func readLoads(file string, m *accel.Model) (moe.Loads, error) {
	none := moe.Loads{}
	if len(withExperts(m)) == 0 {
		return none, fmt.Errorf("-placement: %s has no experts", m.Name)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return none, wrap("-placement", err)
	}
	var named struct {
		Loads        [][]*float64 `json:"loads"`
		LogicalCount [][]*float64 `json:"logical_count"`
	}
	var rows [][]*float64
	if b = bytes.TrimSpace(b); len(b) > 0 && b[0] == '{' {
		err = json.Unmarshal(b, &named)
		if rows = named.Loads; rows == nil {
			rows = named.LogicalCount
		}
	} else {
		err = json.Unmarshal(b, &rows)
	}
	if err != nil {
		return none, fmt.Errorf("-placement %s: loads must be rows of numbers: %w", file, err)
	}
	rows, err = rowsOf(m, "-placement "+file, rows)
	if err != nil {
		return none, err
	}
	l := moe.Loads{Layers: len(rows), Experts: len(rows[0])}
	for i, row := range rows {
		if len(row) != l.Experts {
			return none, fmt.Errorf("-placement %s: loads[%d] has %d experts, and loads[0] has %d", file, i, len(row), l.Experts)
		}
		for e, v := range row {
			switch {
			case v == nil:
				l.Tokens, l.Absent = append(l.Tokens, 0), append(l.Absent, true)
				continue
			case math.IsNaN(*v) || *v < 0 || *v > 1e30:
				return none, fmt.Errorf("-placement %s: loads[%d][%d] is %v, must be from 0 to 1e30", file, i, e, *v)
			}
			l.Tokens, l.Absent = append(l.Tokens, *v), append(l.Absent, false)
		}
	}
	return l, nil
}

// readPlacement reads SGLang's form, the one that -emit init-expert-location writes.
func readPlacement(file string, m *accel.Model) ([][]int32, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, wrap("-previous", err)
	}
	var named struct {
		Map [][]int32 `json:"physical_to_logical_map"`
	}
	if err := json.Unmarshal(b, &named); err != nil {
		return nil, fmt.Errorf("-previous %s: %w", file, err)
	}
	return rowsOf(m, "-previous "+file+": physical_to_logical_map", named.Map)
}
