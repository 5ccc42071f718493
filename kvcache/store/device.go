package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Device is the KV memory of an accelerator, cut into blocks of one size. Engines move it themselves, with their vendors'
// libraries; who embeds an engine implements this to have a Store fed from it. This package has a simulated one only.
type Device interface {
	BlockBytes() int
	// Offload copies blocks of the device to memory: block blocks[i] to dst[i], of BlockBytes each.
	Offload(ctx context.Context, blocks []int, dst [][]byte) error
	// Load copies from memory to blocks of the device.
	Load(ctx context.Context, blocks []int, src [][]byte) error
}

// SimulatedDevice is a Device without hardware: its blocks are in CPU memory, and copies take as long as a link of some bandwidth
// would, one after another.
type SimulatedDevice struct {
	blockBytes     int
	bytesPerSecond float64

	mu     sync.Mutex
	blocks [][]byte
	link   chan struct{}
}

// NewSimulatedDevice makes a device of zeros. A bandwidth of 0 takes no time.
func NewSimulatedDevice(blocks, blockBytes int, bytesPerSecond float64) (*SimulatedDevice, error) {
	if blocks < 1 || blockBytes < 1 || !(bytesPerSecond >= 0) {
		return nil, fmt.Errorf("simulated device of %d blocks of %d bytes at %v bytes/s", blocks, blockBytes, bytesPerSecond)
	}
	return &SimulatedDevice{blockBytes: blockBytes, bytesPerSecond: bytesPerSecond, blocks: make([][]byte, blocks), link: make(chan struct{}, 1)}, nil
}

// BlockBytes is the size of a block.
func (d *SimulatedDevice) BlockBytes() int { return d.blockBytes }

// Offload copies from the device.
func (d *SimulatedDevice) Offload(ctx context.Context, blocks []int, dst [][]byte) error {
	return d.move(ctx, blocks, dst, func(block *[]byte, memory []byte) {
		if *block == nil {
			clear(memory)
			return
		}
		copy(memory, *block)
	})
}

// Load copies to the device.
func (d *SimulatedDevice) Load(ctx context.Context, blocks []int, src [][]byte) error {
	return d.move(ctx, blocks, src, func(block *[]byte, memory []byte) { *block = append((*block)[:0], memory...) })
}

func (d *SimulatedDevice) move(ctx context.Context, blocks []int, memory [][]byte, one func(*[]byte, []byte)) error {
	if len(blocks) != len(memory) {
		return fmt.Errorf("%d blocks and %d pieces of memory", len(blocks), len(memory))
	}
	var errs []error
	for i, b := range blocks {
		if b < 0 || b >= len(d.blocks) {
			errs = append(errs, fmt.Errorf("block %d of a device of %d", b, len(d.blocks)))
		} else if len(memory[i]) != d.blockBytes {
			errs = append(errs, fmt.Errorf("%d bytes for block %d, want %d", len(memory[i]), b, d.blockBytes))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	select {
	case d.link <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.link }()
	if d.bytesPerSecond > 0 {
		t := time.NewTimer(time.Duration(float64(len(blocks)*d.blockBytes) / d.bytesPerSecond * 1e9))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, b := range blocks {
		one(&d.blocks[b], memory[i])
	}
	return nil
}
