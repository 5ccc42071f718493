package enginemetrics

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/inferloom/inferloom/scheduling"
)

// Parser finds the metrics of its sources in pages in the Prometheus text format or OpenMetrics. It is safe for concurrent
// use.
//
// It walks the lines of a page and looks at the first bytes of each, as many as all names that it knows have. Only where
// these may begin one of the names is the line read.
type Parser struct {
	head     int
	families [256][]*family // by hash of the head
}

// family is the rules for the series of one name.
type family struct {
	name  string
	rules []rule
}

// rule is what the series of a selector mean.
type rule struct {
	quantity   quantity
	preference uint16 // less is better
	labels     []Label
	rank       string
	sum        bool
	// Labels of a series of geometry.
	blockTokens, cacheBlocks string
}

// NewParser makes a parser for sources, and for metrics of the program's own, each selected by a Selector's string. It reports every
// problem at once.
func NewParser(sources []Source, custom map[scheduling.Metric]string) (*Parser, error) {
	b := builder{families: map[string]*family{}}
	for i, s := range sources {
		b.where = fmt.Sprintf("sources[%d] (%s)", i, s.Name)
		b.source = s
		b.add("Waiting", waiting, s.Waiting)
		b.add("Running", running, s.Running)
		b.add("KVUsage", kvUsage, s.KVUsage)
		b.add("BlockTokens", blockTokens, s.BlockTokens)
		b.add("CacheBlocks", cacheBlocks, s.CacheBlocks)
		b.add("CacheTokens", cacheTokens, s.CacheTokens)
		b.add("Geometry", geometry, s.Geometry)
		b.add("Adapters", adapters, s.Adapters)
	}
	for metric, selector := range custom {
		b.where, b.source = "custom", Source{RankLabel: "engine", Sum: true}
		if quantity(metric) <= kvUsage || quantity(metric) >= firstOther {
			b.problems = append(b.problems, fmt.Errorf("custom: %v is no custom metric", metric))
			continue
		}
		b.add(metric.String(), quantity(metric), []string{selector})
	}
	if len(b.families) == 0 {
		b.problems = append(b.problems, errors.New("no selectors"))
	}
	if err := errors.Join(b.problems...); err != nil {
		return nil, fmt.Errorf("engine metrics: %w", err)
	}
	p := &Parser{head: math.MaxInt}
	for name := range b.families {
		p.head = min(p.head, len(name))
	}
	p.head = min(p.head, 16)
	for name, f := range b.families {
		h := p.hash([]byte(name))
		p.families[h] = append(p.families[h], f)
	}
	return p, nil
}

type builder struct {
	families map[string]*family
	where    string
	source   Source
	rules    uint16
	problems []error
}

func (b *builder) add(field string, q quantity, selectors []string) {
	for i, s := range selectors {
		sel, err := ParseSelector(s)
		if err != nil {
			b.problems = append(b.problems, fmt.Errorf("%s: %s[%d]: %w", b.where, field, i, err))
			continue
		}
		f := b.families[sel.Name]
		if f == nil {
			f = &family{name: sel.Name}
			b.families[sel.Name] = f
		}
		b.rules++
		f.rules = append(f.rules, rule{
			quantity: q, preference: b.rules, labels: sel.Labels, rank: b.source.RankLabel, sum: b.source.Sum,
			blockTokens: b.source.BlockTokensLabel, cacheBlocks: b.source.CacheBlocksLabel,
		})
	}
}

// hash mixes the head of a line, which has that many bytes.
func (p *Parser) hash(line []byte) uint8 {
	if p.head < 8 {
		h := uint64(14695981039346656037)
		for _, c := range line[:p.head] {
			h = (h ^ uint64(c)) * 1099511628211
		}
		return uint8(h >> 56)
	}
	first, last := binary.LittleEndian.Uint64(line), binary.LittleEndian.Uint64(line[p.head-8:])
	return uint8((first*0x9e3779b97f4a7c15 ^ last*0xc2b2ae3d27d4eb4f) >> 56)
}

// Parse reads a page into what is then all that it said. Lines that are broken are passed over.
func (p *Parser) Parse(page []byte, into *Page) {
	into.reset()
	for len(page) > 0 {
		line := page
		if n := bytes.IndexByte(page, '\n'); n >= 0 {
			line, page = page[:n], page[n+1:]
		} else {
			page = nil
		}
		if len(line) <= p.head {
			continue
		}
		if families := p.families[p.hash(line)]; families != nil {
			p.series(families, line, into)
		}
	}
}

func (p *Parser) series(families []*family, line []byte, into *Page) {
	end := bytes.IndexAny(line, "{ \t")
	if end < 0 {
		return
	}
	for _, f := range families {
		if f.name == string(line[:end]) {
			for i := range f.rules {
				f.rules[i].read(line[end:], into)
			}
			return
		}
	}
}

// read notes what a series says, from its labels on.
func (r *rule) read(line []byte, into *Page) {
	number, matched := noRank, 0
	var tokens, blocks, active, queued, most []byte
	if line[0] == '{' {
		l := labels{rest: line[1:]}
		for l.next() {
			switch name := string(l.name); {
			case r.rank != "" && name == r.rank:
				if n, err := strconv.Atoi(string(l.value)); err == nil && n >= 0 {
					number = n
				}
			case r.quantity == geometry && name == r.blockTokens:
				tokens = l.value
			case r.quantity == geometry && name == r.cacheBlocks:
				blocks = l.value
			case r.quantity == adapters && name == "running_lora_adapters":
				active = l.value
			case r.quantity == adapters && name == "waiting_lora_adapters":
				queued = l.value
			case r.quantity == adapters && name == "max_lora":
				most = l.value
			}
			for _, want := range r.labels {
				if want.Name == string(l.name) && equal(l.value, want.Value) {
					matched++
				}
			}
		}
		line = l.rest
	}
	if matched < len(r.labels) || len(line) == 0 {
		return
	}
	v := number64(line)
	switch r.quantity {
	case geometry:
		if v > 0 {
			into.rank(number).note(blockTokens, r.preference, number64(tokens), false)
			into.rank(number).note(cacheBlocks, r.preference, number64(blocks), false)
		}
	case adapters:
		into.noteAdapters(active, queued, most, v)
	default:
		into.rank(number).note(r.quantity, r.preference, v, r.sum)
	}
}

// equal compares a label's value, escapes and all, with one that has none.
func equal(raw []byte, value string) bool {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == value
	}
	return string(unescape(nil, raw)) == value
}

// names splits a list of adapters.
func names(list []byte) []string {
	var all []string
	for name := range strings.SplitSeq(string(unescape(nil, list)), ",") {
		if name = strings.TrimSpace(name); name != "" {
			all = append(all, name)
		}
	}
	return all
}
