//go:build !race

package moe

const racing = false
