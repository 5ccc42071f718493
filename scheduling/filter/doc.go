// Package filter has the built-in scheduling filters, a type each. A filter's exported fields are its parameters.
package filter
