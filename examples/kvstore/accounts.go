package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/inferloom/inferloom/kvcache/store"
	"github.com/inferloom/inferloom/kvcache/store/resp"
)

// everything is the namespace of accounts that see all pages.
const everything = "*"

// account is one line of the file.
type account struct {
	PasswordSHA256 string `json:"password_sha256"`
	Namespace      string `json:"namespace"`
}

// accounts by name. A nil one lets everybody do everything.
type accounts map[string]account

// readAccounts reads the file and reports every problem with it.
func readAccounts(path string) (accounts, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var a accounts
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&a); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(a)) {
		one := a[name]
		if sum, err := hex.DecodeString(one.PasswordSHA256); err != nil || len(sum) != sha256.Size {
			problems = append(problems, fmt.Errorf("%s: %q: password_sha256 has %d characters, want the %d hexadecimal digits of a SHA-256",
				path, name, len(one.PasswordSHA256), 2*sha256.Size))
		}
		if err := (store.Key{Namespace: one.Namespace, Hash: "h"}).Validate(); err != nil {
			problems = append(problems, fmt.Errorf("%s: %q: namespace: %w", path, name, err))
		}
	}
	if len(a) == 0 {
		problems = append(problems, fmt.Errorf("%s: no accounts", path))
	}
	return a, errors.Join(problems...)
}

// verify returns the namespace of an account whose password this is.
func (a accounts) verify(name, password string) (namespace string, ok bool) {
	one, known := a[name]
	sum := sha256.Sum256([]byte(password))
	want, _ := hex.DecodeString(one.PasswordSHA256)
	same := subtle.ConstantTimeCompare(sum[:], want) == 1
	return one.Namespace, known && same
}

// redis is how the Redis protocol asks. Accounts that see everything have no namespace of their own there.
func (a accounts) redis() func(name, password string) (string, bool) {
	if a == nil {
		return nil
	}
	return func(name, password string) (string, bool) {
		namespace, ok := a.verify(name, password)
		if namespace == everything {
			namespace = resp.DefaultNamespace
		}
		return namespace, ok
	}
}

// may reports whether credentials, as in the header Authorization, allow the use of a namespace.
func (a accounts) may(authorization, namespace string) bool {
	if a == nil {
		return true
	}
	encoded, ok := strings.CutPrefix(authorization, "Basic ")
	text, err := base64.StdEncoding.DecodeString(encoded)
	name, password, whole := strings.Cut(string(text), ":")
	if !ok || err != nil || !whole {
		return false
	}
	own, ok := a.verify(name, password)
	return ok && (own == everything || own == namespace || strings.HasPrefix(namespace, own+"#"))
}

func (a accounts) http(r *http.Request, namespace string) bool {
	return a.may(r.Header.Get("Authorization"), namespace)
}

func (a accounts) grpc(ctx context.Context, namespace string) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if !a.may(strings.Join(md.Get("authorization"), ""), namespace) {
		return status.Errorf(codes.PermissionDenied, "namespace %q is not yours", namespace)
	}
	return nil
}

// basic are an account's credentials towards peers.
type basic struct {
	name, password string
	secure         bool
}

func (b basic) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(b.name+":"+b.password))}, nil
}

func (b basic) RequireTransportSecurity() bool { return b.secure }
