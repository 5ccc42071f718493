// Package picker has the built-in pickers, a type each: they turn scores into a choice and its fallbacks. The fallbacks
// are the best of the rest by score.
package picker
