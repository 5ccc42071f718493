// Package pagespb is the protocol of package peer: generated from pages.proto.
package pagespb

//go:generate sh generate.sh
