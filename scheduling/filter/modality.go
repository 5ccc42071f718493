package filter

import (
	"errors"
	"slices"
	"strings"

	"github.com/inferloom/inferloom/scheduling"
)

// Modality keeps the endpoints that take all kinds of input that a request has. A label lists them, separated by commas: text,
// image, audio, video; other words are passed over. An endpoint without the label takes all, every endpoint takes text. Use it by
// pointer.
type Modality struct {
	Label string `json:"label"`

	takes scheduling.PerLayout[[]scheduling.Modality]
}

const everything = scheduling.Image | scheduling.Audio | scheduling.Video

var modalities = map[string]scheduling.Modality{"image": scheduling.Image, "audio": scheduling.Audio, "video": scheduling.Video}

func (f *Modality) derive(s *scheduling.Snapshot) []scheduling.Modality {
	return scheduling.BySlot(s, func(e *scheduling.Endpoint) scheduling.Modality {
		text, ok := e.Labels[f.Label]
		if !ok {
			return everything
		}
		var takes scheduling.Modality
		for word := range strings.SplitSeq(text, ",") {
			takes |= modalities[strings.TrimSpace(word)]
		}
		return takes
	})
}

// Filter implements scheduling.Filter.
func (f *Modality) Filter(c *scheduling.Cycle, slots []scheduling.Slot) []scheduling.Slot {
	want := c.Request.Modality & everything
	if want == 0 {
		return slots
	}
	takes := f.takes.Of(c.Snapshot, f.derive)
	return slices.DeleteFunc(slots, func(slot scheduling.Slot) bool { return takes[slot]&want != want })
}

// Validate implements scheduling.Validator.
func (f *Modality) Validate() error {
	if f.Label == "" {
		return errors.New("label: empty")
	}
	return nil
}
