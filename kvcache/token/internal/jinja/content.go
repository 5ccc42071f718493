package jinja

import "slices"

// contentParts finds, as vLLM does, whether the contents of messages are looped over: a loop over the content of what a loop
// over messages, or over what was set to them, names.
func (p *parser) contentParts() bool {
	const messages = "messages"
	names := []string{messages}
	for i := 0; i < len(names); i++ {
		for _, s := range p.sets {
			if s.value == nil || !isAccess(p.t, s.value, names[i], "") {
				continue
			}
			if s.target.several || s.target.attribute != "" {
				return false // vLLM gives up there
			}
			if name := p.t.names[s.target.ids[0]]; !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	var message []string
	for _, f := range p.fors {
		if len(f.target.ids) == 1 && slices.ContainsFunc(names, func(n string) bool { return isAccess(p.t, f.iter, n, "") }) {
			message = append(message, p.t.names[f.target.ids[0]])
		}
	}
	return slices.ContainsFunc(p.fors, func(f *forStmt) bool {
		return slices.ContainsFunc(message, func(n string) bool { return isAccess(p.t, f.iter, n, "content") })
	})
}

// isAccess reports whether e is the variable, or its attribute if one is named, behind any filters, tests and slices.
func isAccess(t *Template, e expr, variable, attribute string) bool {
	switch e := e.(type) {
	case *filterExpr:
		return e.of != nil && isAccess(t, e.of, variable, attribute)
	case *testExpr:
		return isAccess(t, e.of, variable, attribute)
	case *sliceExpr:
		return isAccess(t, e.of, variable, attribute)
	case *attrExpr:
		return attribute != "" && e.name == attribute && isAccess(t, e.of, variable, "") && isName(e.of)
	case *itemExpr:
		key, ok := e.key.(*constExpr)
		return attribute != "" && ok && key.value.kind == stringKind && key.value.s == attribute && isName(e.of) && isAccess(t, e.of, variable, "")
	case *nameExpr:
		return attribute == "" && t.names[e.id] == variable
	}
	return false
}

func isName(e expr) bool {
	_, ok := e.(*nameExpr)
	return ok
}
