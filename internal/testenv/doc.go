// Package testenv puts whole systems together for tests.
package testenv
