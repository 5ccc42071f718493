// Package rest serves a store over HTTP, for scripts, probes and clients that speak nothing else.
//
//	handler, err := rest.New(rest.Options{Store: tiers})
//	http.ListenAndServe("127.0.0.1:8081", handler)
//
//	PUT    /v1/pages/{namespace}/{hash}/{group}/{rank}   stores the body, whose length must be announced
//	GET    /v1/pages/{namespace}/{hash}/{group}/{rank}   returns the page; ranges are served
//	HEAD   /v1/pages/{namespace}/{hash}/{group}/{rank}   tells of it without reading it
//	DELETE /v1/pages/{namespace}/{hash}/{group}/{rank}   removes it; 204 whether it was there or not
//	GET    /v1/pages?namespace=NAME                      lists pages, a line of JSON each
//
// The path is a key as store.Key.String writes it: the hash in hexadecimal, the namespace escaped. What is known of a page
// (store.Attr) travels in the headers Page-Parent (hexadecimal, empty for the first block), Page-Depth, Page-Tokens and
// Page-Cost (a duration such as 1.5ms).
//
// # Errors
//
// An error is a line of text. 404 is an absent page, 400 a request that makes no sense, 411 a body of unknown length, 413 a
// page that is too large, 507 a page that the store does not want (full, quota, shed), 502 a page that was damaged, 503 a
// store that is broken or closed.
package rest
