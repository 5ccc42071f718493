package accel

import (
	"fmt"
	"strings"
)

// DType is how numbers are stored: weights, KV cache or activations. Its text form is lower case: "fp8_block".
type DType uint8

// FP16 counts as BF16: it has the same size, and the same rate on every accelerator here.
const (
	Unset    DType = iota // in Precision: as in the model's checkpoint
	FP32                  // 4 bytes
	BF16                  // 2 bytes
	FP8                   // 1 byte, one scale a tensor
	FP8Block              // 1 byte and a 4-byte scale for each block of 128 x 128 weights
	INT8                  // 1 byte, weights and activations
	INT4                  // weight-only, groups of 128 with a 16-bit scale and a 4-bit zero point, as GPTQ and AWQ
	INT4G32               // weight-only, groups of 32 with a 16-bit scale
	NVFP4                 // 4 bits and an FP8 scale for each 16
	MXFP4                 // 4 bits and an 8-bit scale for each 32
	numDTypes
)

var dtypes = [numDTypes]struct {
	name  string
	bytes float64
}{
	Unset:    {"", 0},
	FP32:     {"fp32", 4},
	BF16:     {"bf16", 2},
	FP8:      {"fp8", 1},
	FP8Block: {"fp8_block", 1 + 4./(128*128)},
	INT8:     {"int8", 1},
	INT4:     {"int4", .5 + 2.5/128},
	INT4G32:  {"int4_g32", .5 + 2./32},
	NVFP4:    {"nvfp4", .5 + 1./16},
	MXFP4:    {"mxfp4", .5 + 1./32},
}

// Bytes is the size of one number, its share of the scales included. It is 0 for Unset.
func (d DType) Bytes() float64 {
	if d >= numDTypes {
		return 0
	}
	return dtypes[d].bytes
}

// Peak is the type whose rate matrix units work at when weights are of this type and the accelerator has that rate: a block
// scale does not change it. Weight-only types are widened to BF16 first.
func (d DType) Peak() DType {
	switch d {
	case FP8Block:
		return FP8
	case INT4, INT4G32:
		return BF16
	}
	return d
}

func (d DType) String() string {
	if d >= numDTypes {
		return fmt.Sprintf("dtype(%d)", uint8(d))
	}
	if d == Unset {
		return "unset"
	}
	return dtypes[d].name
}

// ParseDType reads the text form, and the names that engines and checkpoints use for the same thing, such as "float8_e4m3fn"
// or "torch.bfloat16".
func ParseDType(s string) (DType, error) {
	name := strings.TrimPrefix(strings.ToLower(strings.TrimSpace(s)), "torch.")
	for d := FP32; d < numDTypes; d++ {
		if dtypes[d].name == name {
			return d, nil
		}
	}
	switch name {
	case "bfloat16", "float16", "fp16", "half":
		return BF16, nil
	case "float32", "float":
		return FP32, nil
	case "float8", "float8_e4m3", "float8_e4m3fn", "fp8_e4m3", "fp8_e5m2", "e4m3":
		return FP8, nil
	case "int4_wo", "w4a16", "awq", "gptq":
		return INT4, nil
	case "w8a8", "w8a8_int8":
		return INT8, nil
	case "fp4":
		return NVFP4, nil
	}
	return Unset, &FieldError{Field: "dtype", Value: s, Want: "must be one of fp32, bf16, fp8, fp8_block, int8, int4, int4_g32, nvfp4, mxfp4"}
}

// MarshalText writes the text form; Unset is empty.
func (d DType) MarshalText() ([]byte, error) {
	if d >= numDTypes {
		return nil, &FieldError{Field: "dtype", Value: uint8(d), Want: "is unknown"}
	}
	return []byte(dtypes[d].name), nil
}

// UnmarshalText reads what [ParseDType] does; empty is Unset.
func (d *DType) UnmarshalText(text []byte) (err error) {
	*d = Unset
	if len(text) > 0 {
		*d, err = ParseDType(string(text))
	}
	return err
}

// Precision is how a deployment stores its numbers. What is Unset is filled in by [Model.Resolve].
type Precision struct {
	Weights   DType // of dense parts and shared experts
	Attention DType // of projections of attention
	Experts   DType // of routed experts
	Embed     DType // of the token embedding and the output head, which engines rarely quantise
	KV        DType // BF16 or FP8, and NVFP4 where an engine has it
}
