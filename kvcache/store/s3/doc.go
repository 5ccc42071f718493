// Package s3 keeps pages in a bucket of Amazon S3 or any service with its API, through the client minio-go.
//
//	client, err := minio.New("s3.eu-central-1.amazonaws.com", &minio.Options{Creds: credentials.NewIAM(""), Secure: true, MaxRetries: 2})
//	level, err := s3.New(s3.Options{Client: client, Bucket: "kv", Prefix: "llama/"})
//
// A page is one object, checksummed, under Options.Prefix and the key's name. A read that ends early, or brings other bytes than
// were put, is an error and not a page.
//
// # Caveats
//
// Objects stay until they are deleted: give the bucket a lifecycle rule, or put the level into a store.Tiered with a quota.
// For the same reason a pin is kept without doing anything. No events come from this level.
//
// minio-go repeats a failed request up to ten times, with growing pauses, unless MaxRetries says less; in a store.Tiered,
// which breaks the circuit of a level that fails, less is better.
package s3
