//go:build race

package matrix

const racing = true
