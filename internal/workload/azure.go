package workload

import (
	"bytes"
	"io"
	"time"
)

// Azure reads a trace in the format of the Azure LLM inference traces of 2023 (Patel et al., "Splitwise", ISCA '24) and
// 2024 (Stojkovic et al., "DynamoLLM", HPCA '25):
//
//	TIMESTAMP,ContextTokens,GeneratedTokens
//	2023-11-16 18:17:03.9799600,4808,10
//
// Timestamps are in order, with or without a fraction of a second and an offset from UTC; further columns, such as
// the images of the multimodal trace of 2025, are passed over. Arrival is counted from the first request.
//
// The traces have no content: each request is a session of one user message of a text of its own, so nothing is shared.
// Requests without a prompt or an answer, with a count of 0, are passed over. An error names the line. The sequence can be
// iterated once; it holds one line at a time.
func Azure(r io.Reader) Source {
	return readLines(r, &azureTrace{rows{
		clock: clock{unit: 1},
		table: table{names: []string{"TIMESTAMP", "ContextTokens", "GeneratedTokens"}, need: 3},
	}})
}

type azureTrace struct{ rows }

func (t *azureTrace) read(line []byte) (r Request, ok bool, err error) {
	return t.request(line, parseTime, "a time such as 2023-11-16 18:17:03.9799600")
}

// parseTime reads a time such as 2024-05-10 00:00:00.009930+00:00 as nanoseconds since 1970.
func parseTime(b []byte) (unix int64, ok bool) {
	const plain = len("2006-01-02 15:04:05")
	if len(b) < plain || b[4] != '-' || b[7] != '-' || b[10] != ' ' && b[10] != 'T' || b[13] != ':' || b[16] != ':' {
		return 0, false
	}
	var parts [6]int64
	for i, at := range [6][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		if parts[i], ok = parseUint(b[at[0]:at[1]]); !ok {
			return 0, false
		}
	}
	year, month, day, hour, minute, second := parts[0], time.Month(parts[1]), parts[2], parts[3], parts[4], parts[5]
	t := time.Date(int(year), month, int(day), int(hour), int(minute), int(second), 0, time.UTC)
	if t.Month() != month || int64(t.Day()) != day || int64(t.Hour()) != hour || int64(t.Minute()) != minute || year < 1700 || year > 2200 {
		return 0, false // such as the 31st of a month of 30 days
	}
	unix = t.UnixNano()
	rest := b[plain:]
	if len(rest) > 0 && rest[0] == '.' {
		digits := bytes.IndexAny(rest, "+-Z")
		if digits < 0 {
			digits = len(rest)
		}
		fraction, ok := parseFraction(rest[1:digits])
		if !ok {
			return 0, false
		}
		unix += fraction
		rest = rest[digits:]
	}
	offset, ok := parseOffset(rest)
	return unix - offset.Nanoseconds(), ok
}

// parseOffset reads an offset from UTC: nothing, Z, or such as +05:30.
func parseOffset(b []byte) (time.Duration, bool) {
	if len(b) == 0 || string(b) == "Z" {
		return 0, true
	}
	if len(b) != len("+05:30") || b[0] != '+' && b[0] != '-' || b[3] != ':' {
		return 0, false
	}
	hours, ok1 := parseUint(b[1:3])
	minutes, ok2 := parseUint(b[4:6])
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if b[0] == '-' {
		offset = -offset
	}
	return offset, ok1 && ok2 && hours < 24 && minutes < 60
}
