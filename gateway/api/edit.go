package api

// Edit replaces body[Start:End] by Replacement; Start == End inserts.
type Edit struct {
	Start, End  int
	Replacement []byte
}

// Splice appends body with the edits made to dst and returns it. The edits are in ascending order, do not overlap and
// lie within body; Splice panics otherwise, since a body that is silently cut wrong would be served. dst must not
// share memory with body.
func Splice(dst, body []byte, edits []Edit) []byte {
	at := 0
	for _, e := range edits {
		if e.Start < at || e.End < e.Start || e.End > len(body) {
			panic("api: edits of a body overlap, are out of order or out of range")
		}
		dst = append(dst, body[at:e.Start]...)
		dst = append(dst, e.Replacement...)
		at = e.End
	}
	return append(dst, body[at:]...)
}

// SplicedLen returns the length of the body that [Splice] makes.
func SplicedLen(body []byte, edits []Edit) int {
	n := len(body)
	for _, e := range edits {
		n += len(e.Replacement) - (e.End - e.Start)
	}
	return n
}

// SetModel returns the edit that makes the request name another model.
func (r *Request) SetModel(model string) Edit {
	return Edit{Start: r.ModelSpan.Start, End: r.ModelSpan.End, Replacement: appendString(nil, model)}
}
