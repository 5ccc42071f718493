package storetest

import (
	"testing"

	"github.com/inferloom/inferloom/kvcache/store"
)

func TestMap(t *testing.T) {
	Run(t, Options{New: func(*testing.T) store.Store { return &Map{} }})
}

func TestFaultWithoutFaults(t *testing.T) {
	Run(t, Options{New: func(*testing.T) store.Store { return NewFault(&Map{}) }})
}
