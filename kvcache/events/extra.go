package events

// extras reads the extra keys: nil or a list of items for each block. They may come in two fields of one event, which then
// follow one another in Event.Extras.
func (d *Decoder) extras(b *Batch, e *Event) {
	r := &d.r
	start := len(b.extras) - len(e.Extras)
	for block, n := 0, r.array(); block < n && r.err == nil; block++ {
		if r.null() {
			continue
		}
		for items := r.array(); items > 0 && r.err == nil; items-- {
			x := Extra{Block: block}
			if d.extra(&x) {
				b.extras = append(b.extras, x)
			} else {
				b.UnknownFields++
			}
		}
	}
	e.Extras = b.extras[start:len(b.extras):len(b.extras)]
}

// extra reads one item: text, [identifier, offset], bytes, or a map that says its type.
func (d *Decoder) extra(x *Extra) (known bool) {
	r := &d.r
	switch c := r.peek(); {
	case isText(c):
		x.Kind, x.Value = Text, d.text()
	case isBytes(c):
		x.Kind, x.Value = Embeddings, d.text()
	case isMap(c):
		return d.typedExtra(x)
	case isArray(c):
		n := r.array()
		if n < 2 || !isText(r.peek()) {
			for range n {
				r.skip()
			}
			return false
		}
		x.Kind, x.Value, x.Offset = Item, d.text(), int64(r.bits())
		for range n - 2 {
			r.skip()
		}
	default:
		r.skip()
		return false
	}
	return true
}

func (d *Decoder) typedExtra(x *Extra) (known bool) {
	r := &d.r
	for n := r.mapping(); n > 0 && r.err == nil; n-- {
		switch string(r.raw()) {
		case "type":
			switch string(r.raw()) {
			case "lora":
				x.Kind = AdapterName
			case "cache_salt":
				x.Kind = Salt
			case "prompt_embeds":
				x.Kind = Embeddings
			case "mm", "mm_key":
				x.Kind = Item
			case "legacy":
				x.Kind = Text
			}
		case "name", "salt", "hash", "value":
			if !isText(r.peek()) && !isBytes(r.peek()) {
				r.skip()
				continue
			}
			x.Value = d.text()
		case "block_offset", "start_offset":
			if !r.null() {
				x.Offset = int64(r.bits())
			}
		default:
			r.skip()
		}
	}
	return x.Kind != 0
}

// findSalt tells apart the bare strings among the extra keys: the adapter's name is known, and the salt is the last other
// string of a chain's first block. A string that a later block has too is an item of older vLLM, as salts are only in the first.
func (e *Event) findSalt() {
	salt := -1
	for i := range e.Extras {
		x := &e.Extras[i]
		switch {
		case x.Kind == Text && e.Adapter != "" && x.Value == e.Adapter:
			x.Kind = AdapterName
		case x.Kind == Salt:
			e.Salt = x.Value
		case x.Kind == Text && x.Block == 0 && !e.HasParent:
			salt = i
		case x.Kind == Text && salt >= 0 && x.Value == e.Extras[salt].Value:
			salt = -1
		}
	}
	if salt >= 0 && e.Salt == "" {
		e.Extras[salt].Kind = Salt
		e.Salt = e.Extras[salt].Value
	}
}
