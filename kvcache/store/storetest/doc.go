// Package storetest tests implementations of store.Store: Run holds one to what package store guarantees, against a map. Map is
// a Store for tests of what uses one, and Fault makes any Store slow, broken or hung.
package storetest
