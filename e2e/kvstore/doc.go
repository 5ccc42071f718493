// Package kvstore holds the tiered store to clients and servers that others wrote. It runs with the build tag e2e.
package kvstore
