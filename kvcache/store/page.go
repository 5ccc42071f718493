package store

// Page is a page that was read. Bytes are valid, and must not be changed, until Release. A Page is used by one goroutine at a
// time, and only one of its copies may be released. The zero Page is empty.
type Page struct {
	bytes []byte
	attr  Attr
	owner Owner
	token uint64
}

// Owner is the level that a page's memory belongs to.
type Owner interface {
	// ReleasePage is called once for each page that was made with the token.
	ReleasePage(token uint64)
}

// Describer is an Owner that keeps the Attr of its pages, so that reading a page does not copy what few ask for.
type Describer interface {
	PageAttr(token uint64) Attr
}

// NewPage makes a page for a level to return. The owner is told of the release; it is nil for bytes of the Go heap. If it is a
// Describer, the attr is not used.
func NewPage(bytes []byte, attr Attr, owner Owner, token uint64) Page {
	return Page{bytes: bytes, attr: attr, owner: owner, token: token}
}

// Bytes are the page's contents.
func (p *Page) Bytes() []byte { return p.bytes }

// Attr is what was put with the page.
func (p *Page) Attr() Attr {
	if d, ok := p.owner.(Describer); ok {
		return d.PageAttr(p.token)
	}
	return p.attr
}

// Release gives the page back. Later calls do nothing.
func (p *Page) Release() {
	owner, token := p.owner, p.token
	*p = Page{}
	if owner != nil {
		owner.ReleasePage(token)
	}
}
