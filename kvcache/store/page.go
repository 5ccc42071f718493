package store

// Page is a page that was read. Bytes are valid, and must not be changed, until Release. A Page is used by one goroutine at a
// time, and only one of its copies may be released. The zero Page is empty.
type Page struct {
	bytes []byte
	attr  Attr
	owner Releaser
	token uint64
}

// Releaser is the level that a page's memory belongs to.
type Releaser interface {
	// ReleasePage is called once for each page that was made with the token.
	ReleasePage(token uint64)
}

// NewPage makes a page for a level to return. The owner is told of the release; it is nil for bytes of the Go heap.
func NewPage(bytes []byte, attr Attr, owner Releaser, token uint64) Page {
	return Page{bytes: bytes, attr: attr, owner: owner, token: token}
}

// Bytes are the page's contents.
func (p *Page) Bytes() []byte { return p.bytes }

// Attr is what was put with the page.
func (p *Page) Attr() Attr { return p.attr }

// Release gives the page back. Later calls do nothing.
func (p *Page) Release() {
	owner, token := p.owner, p.token
	*p = Page{}
	if owner != nil {
		owner.ReleasePage(token)
	}
}
