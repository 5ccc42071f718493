package main

import "io"

func (a *answer) draw() []byte                { return nil }
func (a *answer) printJSON(w io.Writer) error { return nil }
