package store

import "errors"

// The errors of stores. They are wrapped with what was being done: use errors.Is.
var (
	// ErrNotFound says that there is no such page.
	ErrNotFound = errors.New("page not found")
	// ErrCorrupt says that a page was there and is not what was put. It has been removed.
	ErrCorrupt = errors.New("page is corrupt")
	// ErrFull says that there is no room, and nothing that may be evicted.
	ErrFull = errors.New("store is full")
	// ErrTooLarge says that a page is larger than the store takes.
	ErrTooLarge = errors.New("page is too large")
	// ErrQuota says that the namespace has no room left, and nothing that may be evicted.
	ErrQuota = errors.New("quota of the namespace is used up")
	// ErrShed says that a write was dropped because the level lags behind, or is spared.
	ErrShed = errors.New("write was shed")
	// ErrUnavailable says that the level is broken for now and was not asked.
	ErrUnavailable = errors.New("level is unavailable")
	// ErrUnsupported says that this kind of store cannot do what was asked.
	ErrUnsupported = errors.New("not supported")
	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("store is closed")
	// ErrKey says that a key is not valid.
	ErrKey = errors.New("invalid key")
	// ErrAttr says that an Attr is not valid.
	ErrAttr = errors.New("invalid attributes")
)

// Refused reports whether an error of Put says that a healthy store did not want the page.
func Refused(err error) bool {
	return errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrQuota) || errors.Is(err, ErrShed)
}

// Broken reports whether an error speaks against the store rather than of the page or the caller's request.
func Broken(err error) bool {
	return err != nil && !Refused(err) && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrUnsupported) &&
		!errors.Is(err, ErrKey) && !errors.Is(err, ErrAttr)
}
