package accel

import "slices"

// Figure is a published number. Where sources disagree, Low and High hold the range that they span and Value the one to
// use; otherwise both equal Value. The zero Figure is absent: nobody has published it, or we could not verify it.
type Figure struct {
	Value, Low, High float64
	Sources          []string // names in Catalogue.Sources
}

// Known is whether there is a figure at all.
func (f Figure) Known() bool { return f.Value > 0 }

// Accelerator is a board, not a die: the same silicon at another power limit is another board. Where a board has several
// devices that engines address on their own, as TPU7x chips do, it is still one Accelerator and Devices says so.
type Accelerator struct {
	Name    string // such as "h200-sxm"
	Title   string // such as "NVIDIA H200 SXM"
	Vendor  string // "nvidia", "amd", "intel", "google" or whatever a user's file says
	Aliases []string
	Labels  []string // products as node labels spell them, such as "NVIDIA-H200"

	Memory    Figure // bytes that software sees
	Bandwidth Figure // of that memory, bytes a second
	Power     Figure // watts of the board at most
	Devices   int    // devices a board, 1 for most

	peaks [numDTypes]Figure
}

// Peak is the dense rate in FLOP/s (or integer operations a second) of matrix units on a type. It is unknown where the
// hardware has no such type.
func (a Accelerator) Peak(d DType) (Figure, bool) {
	if d >= numDTypes || !a.peaks[d].Known() {
		return Figure{}, false
	}
	return a.peaks[d], true
}

// Rate is the type that a product with weights of type d is computed in here, and its dense peak in FLOP/s: d's own where
// the hardware has it, otherwise BF16, to which kernels then widen the weights.
func (a Accelerator) Rate(d DType) (computes DType, flops float64, ok bool) {
	want := d.Peak()
	if f, ok := a.Peak(want); ok {
		return want, f.Value, true
	}
	if f, ok := a.Peak(BF16); ok && want != FP32 {
		return BF16, f.Value, true
	}
	return Unset, 0, false
}

// Peaks lists the types that have a rate, in the order of the DType constants.
func (a Accelerator) Peaks() []DType {
	var out []DType
	for d := range numDTypes {
		if a.peaks[d].Known() {
			out = append(out, d)
		}
	}
	return slices.Clip(out)
}

// WithPeak returns a copy with a peak set, for boards that are built in Go.
func (a Accelerator) WithPeak(d DType, f Figure) Accelerator {
	if d < numDTypes {
		a.peaks[d] = f
	}
	return a
}
