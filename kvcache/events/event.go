package events

import "strconv"

// Kind is what happened to the blocks.
type Kind uint8

// The kinds of events. Cleared empties every tier of the publisher.
const (
	Stored Kind = iota + 1
	Removed
	Cleared
)

func (k Kind) String() string { return name(k, "", "stored", "removed", "cleared") }

// Tier is where the blocks are.
type Tier uint8

// The tiers. UnknownTier stands for a medium that this package does not know: Event.Medium names it.
const (
	UnknownTier Tier = iota
	GPU
	CPU
	Disk
	Remote
)

func (t Tier) String() string { return name(t, "unknown", "gpu", "cpu", "disk", "remote") }

// Attention is the kind of a group of layers in a model of several cache groups. Only full and MLA groups (and sinks) hold all
// blocks of a prefix; the others may be sparse.
type Attention uint8

// The kinds of cache groups; UnspecifiedAttention where the event says nothing.
const (
	UnspecifiedAttention Attention = iota
	FullAttention
	MLAAttention
	SlidingWindow
	SlidingWindowMLA
	Mamba
	ChunkedLocal
	SinkFull
	EncoderOnly
	CrossAttention
	OtherAttention
)

var attentions = [...]string{
	"", "full_attention", "mla_attention", "sliding_window", "sliding_window_mla", "mamba", "chunked_local_attention",
	"sink_full_attention", "encoder_only_attention", "cross_attention", "unknown",
}

func (a Attention) String() string { return name(a, attentions[:]...) }

// Locality says whether the blocks are with the publisher or elsewhere.
type Locality uint8

// The localities. OtherLocality is a value that this package does not know: the blocks are best ignored.
const (
	UnspecifiedLocality Locality = iota
	Local
	Elsewhere
	OtherLocality
)

// ExtraKind says what an extra key of a block is.
type ExtraKind uint8

// The kinds of extra keys. Text is a bare string that is not the adapter: the salt or, from vLLM before it told offsets, the
// identifier of a multimodal item.
const (
	Text ExtraKind = iota + 1
	AdapterName
	Salt
	Item
	Embeddings
)

// Extra is one thing beside the tokens that an engine folds into a block's hash.
type Extra struct {
	Block  int // index into Event.Hashes
	Kind   ExtraKind
	Value  string // of Embeddings, the bytes of the digest
	Offset int64  // of an Item: where it starts, relative to the block's first token
}

// Event is one change of a publisher's cache.
type Event struct {
	Kind   Kind
	Tier   Tier
	Medium string // as the engine names it, "" if it does not

	Hashes    []uint64
	Digests   [][]byte // each hash in full where the engine publishes bytes, otherwise empty; they alias the payload
	Parent    uint64
	HasParent bool // false at the start of a chain

	// Tokens are the ids of all blocks, one after another. They are empty where the engine does not tell them (offloading) or
	// has tokens that are not numbers.
	Tokens      []uint32
	BlockTokens int // tokens a block, 0 where the engine does not say
	// Pairs is set by engines that hash pairs of neighbouring tokens (EAGLE): Tokens then holds one more than the blocks.
	Pairs bool

	Adapter      string // name of the LoRA adapter
	AdapterID    int64
	HasAdapterID bool
	Salt         string  // cache salt, as far as the event tells it
	Extras       []Extra // in order of blocks

	Group     int // cache group, -1 where the engine does not say
	Attention Attention
	Window    int // tokens of a sliding window, 0 if none
	Locality  Locality
	Owner     string // identifier of a secondary tier
	Model     string // of publishers that serve several
}

// Dense reports whether the hashes are those of all the event's tokens in order, so that Tokens can be cut into blocks and
// each given its hash. An event that is not dense is of a sparse cache group, of partial blocks, or has no tokens.
func (e *Event) Dense() bool {
	n := len(e.Tokens)
	if e.Pairs {
		n--
	}
	return e.BlockTokens > 0 && len(e.Hashes) > 0 && n%e.BlockTokens == 0 && n/e.BlockTokens == len(e.Hashes)
}

// Batch is what one message holds. It is reused by the next Decode, with all slices of its events.
type Batch struct {
	Time   float64 // seconds since 1970, by the publisher's clock
	Rank   int     // data-parallel rank, -1 where the engine does not say
	Events []Event

	Unknown       int   // events of unknown kinds, passed over
	UnknownFields int   // fields that this package does not know, passed over
	Malformed     int   // known events that were left out because a field was wrong
	FirstError    error // why the first of them was left out

	hashes  []uint64
	digests [][]byte
	tokens  []uint32
	extras  []Extra
}

func (b *Batch) reset() {
	clear(b.Events)
	*b = Batch{Rank: -1, Events: b.Events[:0], hashes: b.hashes[:0], digests: b.digests[:0], tokens: b.tokens[:0], extras: b.extras[:0]}
}

func name[T ~uint8](v T, names ...string) string {
	if int(v) < len(names) {
		return names[v]
	}
	return strconv.Itoa(int(v))
}

// tierOf knows the media of vLLM, SGLang, TensorRT-LLM, Dynamo and llm-d. Events without a medium are of the GPU: so are all
// those of versions before there were tiers.
func tierOf(medium string) Tier {
	switch medium {
	case "", "GPU", "gpu", "DEVICE", "device":
		return GPU
	case "CPU", "cpu", "CPU_PINNED", "CPU_TIER1", "HOST", "host_pinned":
		return CPU
	case "CPU_TIER2", "DISK", "disk", "NVME", "STORAGE":
		return Disk
	case "EXTERNAL", "external", "NETWORK", "REMOTE", "SHARED", "SHARED_STORAGE", "OBJECT_STORE":
		return Remote
	}
	return UnknownTier
}
