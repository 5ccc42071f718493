// Package cputime tells how much processor time this process has used, for tools that say what they cost.
package cputime
