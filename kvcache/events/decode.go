package events

import (
	"math"
	"slices"
)

// Decoder reads payloads. It remembers names that recur, so that they are not allocated again; one Decoder serves one
// goroutine at a time. The zero value is ready.
type Decoder struct {
	names map[string]string
	r     reader
}

// The names kept: past the limit all are forgotten, longer ones are never kept.
const maxNames, maxName = 1024, 256

// Decode reads one payload into b, whose former content is gone. Digests alias the payload, all else is b's own. After an error
// b holds what was read up to there.
func (d *Decoder) Decode(payload []byte, b *Batch) error {
	b.reset()
	d.r = reader{b: payload}
	r := &d.r
	if isMap(r.peek()) {
		d.mapBatch(b)
	} else {
		d.arrayBatch(b)
	}
	if r.err == nil && r.at < len(payload) {
		r.fail(r.at, "the payload goes on after the batch")
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

// arrayBatch reads [time, events] or [time, events, rank]; whatever follows is of a later version.
func (d *Decoder) arrayBatch(b *Batch) {
	r := &d.r
	at := r.at
	n := r.array()
	if r.err == nil && n < 2 {
		r.fail(at, "a batch has a time and events")
		return
	}
	b.Time = r.float()
	d.events(b)
	for i := 2; i < n && r.err == nil; i++ {
		if i == 2 {
			d.rank(b)
			continue
		}
		b.UnknownFields++
		r.skip()
	}
}

func (d *Decoder) mapBatch(b *Batch) {
	r := &d.r
	at, seen := r.at, false
	for n := r.mapping(); n > 0 && r.err == nil; n-- {
		switch string(r.raw()) {
		case "ts", "timestamp":
			b.Time = r.float()
		case "events":
			seen = true
			d.events(b)
		case "data_parallel_rank", "attn_dp_rank", "dp_rank":
			d.rank(b)
		default:
			b.UnknownFields++
			r.skip()
		}
	}
	if !seen {
		r.fail(at, "the batch has no events")
	}
}

func (d *Decoder) rank(b *Batch) {
	if !d.r.null() {
		b.Rank = int(d.r.natural(math.MaxInt32))
	}
}

func (d *Decoder) events(b *Batch) {
	r := &d.r
	for n := r.array(); n > 0 && r.err == nil; n-- {
		if !isBytes(r.peek()) {
			d.event(b)
			continue
		}
		// llm-d's storage publisher wraps each event in bytes.
		inner := r.raw()
		if r.err != nil {
			return
		}
		outer, good := *r, len(b.Events)
		start := outer.at - len(inner)
		*r = reader{b: outer.b[:outer.at], at: start}
		d.event(b)
		if r.err == nil && r.at < outer.at {
			r.fail(r.at, "the event's bytes go on after it")
		}
		if r.err != nil { // what is broken inside does not touch the neighbours
			b.Events = b.Events[:good]
			b.malformed(r.err)
		}
		*r = outer
	}
}

func (b *Batch) malformed(err *Error) {
	b.Malformed++
	if b.FirstError == nil {
		b.FirstError = err
	}
}

// event reads one event into b. If a field is wrong, the event is left out and passed over as a whole; only what cannot be
// passed over stays an error.
func (d *Decoder) event(b *Batch) {
	r := &d.r
	start := r.at
	b.Events = append(b.Events, Event{Group: -1})
	e := &b.Events[len(b.Events)-1]
	hashes, digests, tokens, extras := len(b.hashes), len(b.digests), len(b.tokens), len(b.extras)
	unknown := b.UnknownFields
	known := false
	if isArray(r.peek()) {
		known = d.arrayEvent(b, e)
	} else {
		known = d.mapEvent(b, e)
	}
	if known && r.err == nil {
		e.Tier = tierOf(e.Medium)
		e.findSalt()
		return
	}
	b.Events = b.Events[:len(b.Events)-1]
	b.hashes, b.digests, b.tokens, b.extras = b.hashes[:hashes], b.digests[:digests], b.tokens[:tokens], b.extras[:extras]
	b.UnknownFields = unknown
	failed := r.err
	r.at, r.err = start, nil
	r.skip()
	switch {
	case r.err != nil && failed != nil:
		r.err = failed
	case r.err != nil:
	case failed != nil:
		b.malformed(failed)
	default:
		b.Unknown++
	}
}

func kindOf(tag []byte) Kind {
	switch string(tag) {
	case "BlockStored", "stored":
		return Stored
	case "BlockRemoved", "removed":
		return Removed
	case "AllBlocksCleared", "cleared":
		return Cleared
	}
	return 0
}

type field uint8

const (
	fieldUnknown field = iota
	fieldIgnored       // known, and of no use here
	fieldHashes
	fieldParent
	fieldTokens
	fieldBlockSize
	fieldAdapterID
	fieldMedium
	fieldAdapter
	fieldExtras
	fieldGroup
	fieldAttention
	fieldWindow
	fieldLocality
	fieldOwner
	fieldSalt
	fieldMetadata
	fieldModel
)

var fieldNames = [...]string{
	"", "", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name", "extra_keys", "group_idx",
	"kv_cache_spec_kind", "kv_cache_spec_sliding_window", "locality", "ownership", "cache_salt", "metadata", "model_name",
}

// The fields of the array form by position, after the tag.
var (
	storedFields = [...]field{
		fieldHashes, fieldParent, fieldTokens, fieldBlockSize, fieldAdapterID, fieldMedium, fieldAdapter, fieldExtras, fieldGroup,
		fieldAttention, fieldWindow,
	}
	removedFields = [...]field{fieldHashes, fieldMedium, fieldGroup}
)

func fieldOf(key []byte) field {
	switch string(key) {
	case "block_hashes", "seq_hashes":
		return fieldHashes
	case "parent_block_hash", "parent_hash":
		return fieldParent
	case "token_ids":
		return fieldTokens
	case "block_size":
		return fieldBlockSize
	case "lora_id":
		return fieldAdapterID
	case "medium":
		return fieldMedium
	case "lora_name":
		return fieldAdapter
	case "extra_keys", "mm_keys":
		return fieldExtras
	case "group_idx":
		return fieldGroup
	case "kv_cache_spec_kind":
		return fieldAttention
	case "kv_cache_spec_sliding_window":
		return fieldWindow
	case "locality":
		return fieldLocality
	case "ownership":
		return fieldOwner
	case "cache_salt", "additional_salt":
		return fieldSalt
	case "metadata":
		return fieldMetadata
	case "model_name":
		return fieldModel
	case "type", "event_type", "session_id", "source_kind", "event_version", "event_id", "timestamp":
		return fieldIgnored
	}
	return fieldUnknown
}

func (d *Decoder) arrayEvent(b *Batch, e *Event) (known bool) {
	r := &d.r
	n := r.array()
	if r.err != nil || n == 0 || !isText(r.peek()) {
		return false
	}
	if e.Kind = kindOf(r.raw()); e.Kind == 0 {
		return false
	}
	var fields []field
	switch e.Kind {
	case Stored:
		fields = storedFields[:]
	case Removed:
		fields = removedFields[:]
	}
	for i := range n - 1 {
		if i >= len(fields) {
			b.UnknownFields++
			r.skip()
		} else {
			d.field(b, e, fields[i])
		}
		if r.err != nil {
			return true
		}
	}
	if n < 2 && e.Kind != Cleared {
		d.missing()
	}
	return true
}

func (d *Decoder) missing() {
	d.r.fail(d.r.at, "missing")
	if d.r.err.Field == "" {
		d.r.err.Field = fieldNames[fieldHashes]
	}
}

func (d *Decoder) mapEvent(b *Batch, e *Event) (known bool) {
	r := &d.r
	n := r.mapping()
	if r.err != nil {
		return true
	}
	start := r.at
	// Every engine writes the type first; where it is not, it is looked for before the fields are read.
	for i := 0; i < n && r.err == nil; i++ {
		if key := string(r.raw()); key != "type" && key != "event_type" {
			r.skip()
			continue
		}
		if isText(r.peek()) {
			e.Kind = kindOf(r.raw())
		}
		if i > 0 {
			r.at = start
		} else {
			n--
		}
		break
	}
	if r.err != nil || e.Kind == 0 {
		return r.err != nil
	}
	hashes := false
	for ; n > 0 && r.err == nil; n-- {
		f := fieldOf(r.raw())
		switch f {
		case fieldUnknown:
			b.UnknownFields++
			fallthrough
		case fieldIgnored:
			r.skip()
		default:
			hashes = hashes || f == fieldHashes
			d.field(b, e, f)
		}
	}
	if r.err == nil && !hashes && e.Kind != Cleared {
		d.missing()
	}
	return true
}

// field reads the value of one known field. Nil leaves the default, save for hashes.
func (d *Decoder) field(b *Batch, e *Event, f field) {
	r := &d.r
	if f != fieldHashes && r.null() {
		return
	}
	switch f {
	case fieldHashes:
		d.hashes(b, e)
	case fieldParent:
		// A parent of 0 is how llm-d's storage publisher says that it knows none.
		e.Parent, _ = d.hash()
		e.HasParent = e.Parent != 0
	case fieldTokens:
		d.tokens(b, e)
	case fieldBlockSize:
		e.BlockTokens = int(r.natural(math.MaxInt32))
	case fieldAdapterID:
		e.AdapterID, e.HasAdapterID = int64(r.bits()), true
	case fieldMedium:
		e.Medium = d.text()
	case fieldAdapter:
		if isMap(r.peek()) { // SGLang 0.5.18 has its metadata in this place
			d.metadata(b, e)
		} else {
			e.Adapter = d.text()
		}
	case fieldExtras:
		d.extras(b, e)
	case fieldGroup:
		e.Group = int(r.natural(math.MaxInt32))
	case fieldAttention:
		e.Attention = OtherAttention
		if i := slices.Index(attentions[:], d.text()); i > 0 {
			e.Attention = Attention(i)
		}
	case fieldWindow:
		e.Window = int(r.natural(math.MaxInt32))
	case fieldLocality:
		switch d.text() {
		case "LOCAL":
			e.Locality = Local
		case "REMOTE":
			e.Locality = Elsewhere
		default:
			e.Locality = OtherLocality
		}
	case fieldOwner:
		e.Owner = d.text()
	case fieldSalt:
		e.Salt = d.text()
	case fieldMetadata:
		d.metadata(b, e)
	case fieldModel:
		e.Model = d.text()
	}
	if r.err != nil && r.err.Field == "" {
		r.err.Field = fieldNames[f]
	}
}

func (d *Decoder) metadata(b *Batch, e *Event) {
	r := &d.r
	for n := r.mapping(); n > 0 && r.err == nil; n-- {
		switch string(r.raw()) {
		case "cache_salt":
			if !r.null() {
				e.Salt = d.text()
			}
		case "session_id":
			r.skip()
		default:
			b.UnknownFields++
			r.skip()
		}
	}
}

func (d *Decoder) text() string { return d.intern(d.r.raw()) }

func (d *Decoder) intern(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := d.names[string(b)]; ok {
		return s
	}
	s := string(b)
	if len(b) > maxName {
		return s
	}
	if d.names == nil || len(d.names) >= maxNames {
		d.names = make(map[string]string)
	}
	d.names[s] = s
	return s
}
