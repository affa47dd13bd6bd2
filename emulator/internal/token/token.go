// Package token makes and verifies access tokens: those of REST requests and those of clients. It knows the keys and the
// address of the server, and nothing of hubs.
package token

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// clockSkew is how long before its beginning and after its end a token is accepted.
const clockSkew = 5 * time.Minute

// Claims are what the service reads from a token. Its types decode in one go: this is a good part of the work of
// answering a request.
type Claims struct {
	Audience  stringList `json:"aud"`
	Expires   timestamp  `json:"exp"`
	NotBefore timestamp  `json:"nbf"`
	IssuedAt  timestamp  `json:"iat"`
	Issuer    string     `json:"iss"`
	Subject   string     `json:"sub"`
	Roles     stringList `json:"role"`
	Groups    stringList `json:"webpubsub.group"`

	// What .NET calls sub and role.
	NameIdentifier     string     `json:"nameidentifier"`
	NameIdentifierLong string     `json:"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"`
	RolesLong          stringList `json:"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"`
}

// User returns the user of a client's token, "" if there is none.
func (c *Claims) User() string { return cmp.Or(c.Subject, c.NameIdentifier, c.NameIdentifierLong) }

// AllRoles returns the roles of a client's token.
func (c *Claims) AllRoles() []string { return slices.Concat(c.Roles, c.RolesLong) }

// The methods of [jwt.Claims].

func (c *Claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires.date() }
func (c *Claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore.date() }
func (c *Claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.IssuedAt.date() }
func (c *Claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings(c.Audience), nil }
func (c *Claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *Claims) GetSubject() (string, error)                  { return c.Subject, nil }

// timestamp is seconds since 1970; 0 means that there is no time.
type timestamp float64

func (t timestamp) date() (*jwt.NumericDate, error) {
	if t == 0 {
		return nil, nil
	}
	if math.Abs(float64(t)) > 1<<53 {
		return nil, errors.New("a time that is none")
	}
	return jwt.NewNumericDate(time.Unix(int64(t), 0)), nil
}

// stringList is a list of strings that may be written as one.
type stringList []string

func (l *stringList) UnmarshalJSON(b []byte) error {
	if b[0] != '"' {
		return json.Unmarshal(b, (*[]string)(l))
	}
	*l = make(stringList, 1)
	if bytes.IndexByte(b, '\\') < 0 {
		(*l)[0] = strings.ToValidUTF8(string(b[1:len(b)-1]), "\uFFFD")
		return nil
	}
	return json.Unmarshal(b, &(*l)[0])
}

// ErrNoToken is a request that carries none.
var ErrNoToken = errors.New("the request carries no access token")

// Options are the settings of an Authority.
type Options struct {
	Key, SecondaryKey string
	Endpoint          wire.Endpoint
	Now               func() time.Time
	// AcceptBearer, if set, accepts tokens of REST requests that no key has signed.
	AcceptBearer func(token string) bool
}

// Authority makes and verifies tokens.
type Authority struct {
	Options
	hashes    sync.Pool // of hash.Hash: HMACs by the key
	validator *jwt.Validator
}

// New makes an Authority.
func New(o Options) *Authority {
	a := &Authority{Options: o}
	a.hashes.New = func() any { return hmac.New(sha256.New, []byte(o.Key)) }
	a.validator = jwt.NewValidator(jwt.WithExpirationRequired(), jwt.WithTimeFunc(o.Now), jwt.WithLeeway(clockSkew))
	return a
}

// usualHeader is the header of practically every token: {"alg":"HS256","typ":"JWT"}.
const usualHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

// verify checks a token's signature and times; its callers check the audience. It takes
// a token apart by itself, because jwt.Parser makes a map of the header: every request would pay for that.
func (a *Authority) verify(token string) (*Claims, error) {
	if token == "" {
		return nil, ErrNoToken
	}
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return nil, tokenFault(jwt.ErrTokenMalformed)
	}
	signed := token[:dot]
	header, payload, ok := strings.Cut(signed, ".")
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	var head struct {
		Algorithm string `json:"alg"`
	}
	if header == usualHeader {
		head.Algorithm = jwt.SigningMethodHS256.Alg()
	} else if decodeSegment(header, &head) != nil {
		return nil, tokenFault(jwt.ErrTokenMalformed)
	}
	if !ok || err != nil {
		return nil, tokenFault(jwt.ErrTokenMalformed)
	}
	if head.Algorithm != jwt.SigningMethodHS256.Alg() ||
		!a.hasSigned(signed, signature) &&
			jwt.SigningMethodHS256.Verify(signed, signature, []byte(a.SecondaryKey)) != nil {
		return nil, tokenFault(jwt.ErrTokenSignatureInvalid)
	}
	var c Claims
	if decodeSegment(payload, &c) != nil {
		return nil, tokenFault(jwt.ErrTokenMalformed)
	}
	if err := a.validator.Validate(&c); err != nil {
		return nil, tokenFault(err)
	}
	return &c, nil
}

// hasSigned reports whether a signature is that of the access key, as golang-jwt's HS256 does, which makes the hash behind the
// key anew each time: half of its work.
func (a *Authority) hasSigned(signed string, signature []byte) bool {
	h := a.hashes.Get().(hash.Hash)
	defer a.hashes.Put(h)
	h.Reset()
	h.Write([]byte(signed))
	return hmac.Equal(h.Sum(nil), signature)
}

// decodeSegment reads a part of a token.
func decodeSegment(segment string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// tokenFault returns what is wrong with a token, without anything that is in it.
func tokenFault(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return errors.New("the access token has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return errors.New("the access token is not valid yet")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errors.New("the access token has no expiry")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return errors.New("the access token is not signed with this resource's access key, or not by HS256")
	default:
		return errors.New("the access token is malformed")
	}
}

// bearer returns the token of the Authorization header, or "".
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// AuthorizeRequest checks the token of a REST request.
func (a *Authority) AuthorizeRequest(r *http.Request) error {
	token := bearer(r)
	c, err := a.verify(token)
	if err != nil {
		if token != "" && a.AcceptBearer != nil && a.AcceptBearer(token) {
			return nil
		}
		return err
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // the absolute form, as sent to a proxy
		target = r.URL.RequestURI()
	}
	// The host may be the one the client used or, behind a reverse proxy that keeps the client's, the server's own.
	for _, host := range []string{r.Host, a.Endpoint.Host} {
		for _, aud := range c.Audience {
			if sameURL(aud, a.Endpoint.Scheme+"://"+host+target) {
				return nil
			}
		}
	}
	return errors.New("the audience of the access token is not the URL of the request")
}

// sameURL compares an audience with a URL, without regard to case, as supplied or decoded once.
func sameURL(aud, target string) bool {
	aud, target = dropDefaultPort(aud), dropDefaultPort(target)
	if strings.EqualFold(aud, target) {
		return true
	}
	decoded, err := url.PathUnescape(target)
	if err != nil {
		return false
	}
	if strings.EqualFold(aud, decoded) {
		return true
	}
	aud, err = url.PathUnescape(aud)
	return err == nil && strings.EqualFold(aud, decoded)
}

// dropDefaultPort removes :80 from an http and :443 from an https URL.
func dropDefaultPort(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		return u
	}
	port := map[string]string{"http": ":80", "https": ":443"}[strings.ToLower(scheme)]
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if port != "" && strings.HasSuffix(rest[:end], port) {
		return scheme + "://" + strings.TrimSuffix(rest[:end], port) + rest[end:]
	}
	return u
}

// QueryName is the parameter of a client's URL that holds its token. Its name counts in any case.
const QueryName = "access_token"

// clientToken returns the token of a client's handshake, or "".
func clientToken(r *http.Request) string {
	if token, _ := Query(r.URL, QueryName); token != "" {
		return token
	}
	return bearer(r)
}

// Query returns the value of a parameter of a URL, whose name counts in any case. Of several the last counts.
func Query(u *url.URL, name string) (value string, found bool) {
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		key, text, _ := strings.Cut(part, "=")
		key, err := url.QueryUnescape(key)
		if err != nil || !strings.EqualFold(key, name) {
			continue
		}
		if text, err = url.QueryUnescape(text); err == nil {
			value, found = text, true
		}
	}
	return value, found
}

// AuthorizeClient checks the token of a client that wants to connect to a hub. prefix is the path under which clients
// of its kind connect, such as "/client/hubs/".
func (a *Authority) AuthorizeClient(r *http.Request, prefix, hub string) (*Claims, error) {
	c, err := a.verify(clientToken(r))
	if err != nil {
		return nil, err
	}
	for _, host := range []string{r.Host, a.Endpoint.Host} {
		for _, aud := range c.Audience {
			paths := []string{prefix + hub}
			if prefix == wire.ClientPath {
				paths = append(paths, "/client/?hub="+hub)
			}
			for _, path := range paths {
				if sameURL(strings.TrimSuffix(aud, "/"), a.Endpoint.Scheme+"://"+host+path) {
					return c, nil
				}
			}
		}
	}
	return nil, errors.New("the audience of the access token is not this hub's client URL")
}

// ForClient makes an access token for a client.
func (a *Authority) ForClient(path, userID string, roles, groups []string, lifetime time.Duration) (string, error) {
	now := a.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, clientClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   userID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		},
		Audience: a.Endpoint.String() + path,
		Roles:    roles,
		Groups:   groups,
	}).SignedString([]byte(a.Key))
}

// clientClaims are what the service puts into a client's token.
type clientClaims struct {
	jwt.RegisteredClaims
	Audience string   `json:"aud"`
	Roles    []string `json:"role,omitempty"`
	Groups   []string `json:"webpubsub.group,omitempty"`
}

// ShowClaims returns every claim of a client's token, which has been verified, as the connect event shows them.
func ShowClaims(r *http.Request) map[string][]string {
	token := clientToken(r)
	if token == "" {
		return map[string][]string{} // an anonymous client
	}
	var all jwt.MapClaims
	if _, _, err := jwt.NewParser().ParseUnverified(token, &all); err != nil {
		return nil
	}
	shown := make(map[string][]string, len(all))
	for name, value := range all {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		for _, v := range values {
			shown[name] = append(shown[name], claimText(v))
		}
	}
	return shown
}

// claimText is a claim's value as text: a string as it is, a number as an integer if it is one, anything else as JSON.
func claimText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(text.JSON(v))
}
