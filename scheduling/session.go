package scheduling

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// SessionTokens makes and checks the tokens by which clients come back to the endpoint that served them: the host sends
// Issue's result with an answer, and gives what Verify makes of it to the next request as Request.Pinned. It holds no state,
// so every replica with the same key understands the tokens of the others, and restarts do not matter.
//
// A token is signed, not secret: whoever has one can read the endpoint's ID in it, but not make one for another endpoint, or
// use it under another scope or after it has expired. It is safe for concurrent use.
type SessionTokens struct{ key []byte }

// MinTokenKey is the length in bytes that a key must have.
const MinTokenKey = 16

const (
	tokenExpiry = 8  // bytes, Unix seconds
	tokenMAC    = 16 // bytes of HMAC-SHA-256
)

// ErrSessionToken is wrapped by all errors of Verify.
var ErrSessionToken = errors.New("session token")

// NewSessionTokens returns tokens signed with a key.
func NewSessionTokens(key []byte) (*SessionTokens, error) {
	if len(key) < MinTokenKey {
		return nil, fmt.Errorf("session key: %d bytes, want at least %d", len(key), MinTokenKey)
	}
	return &SessionTokens{append([]byte(nil), key...)}, nil
}

// Issue returns a token for the endpoint with the ID, which is good until a time and only for the scope: a tenant, say.
func (t *SessionTokens) Issue(id, scope string, until time.Time) string {
	token := binary.BigEndian.AppendUint64(nil, uint64(until.Unix()))
	token = append(token, id...)
	return base64.RawURLEncoding.EncodeToString(append(token, t.mac(token, scope)...))
}

// Verify returns the ID of the endpoint that a token was issued for.
func (t *SessionTokens) Verify(token, scope string, now time.Time) (id string, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(raw) < tokenExpiry+tokenMAC {
		return "", fmt.Errorf("%w: malformed", ErrSessionToken)
	}
	signed, mac := raw[:len(raw)-tokenMAC], raw[len(raw)-tokenMAC:]
	if !hmac.Equal(mac, t.mac(signed, scope)) {
		return "", fmt.Errorf("%w: not signed with this key for this scope", ErrSessionToken)
	}
	if until := int64(binary.BigEndian.Uint64(signed)); now.Unix() >= until {
		return "", fmt.Errorf("%w: expired at %v", ErrSessionToken, time.Unix(until, 0).UTC())
	}
	return string(signed[tokenExpiry:]), nil
}

// mac signs with the lengths, so that no two pairs of token and scope are signed alike.
func (t *SessionTokens) mac(signed []byte, scope string) []byte {
	h := hmac.New(sha256.New, t.key)
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(signed))))
	h.Write(signed)
	h.Write([]byte(scope))
	return h.Sum(nil)[:tokenMAC]
}
