// Package token issues and verifies access tokens for REST requests, WebSocket clients and servers at the tunnel. It uses the
// access keys and the server's address, and does not depend on hubs.
package token

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/awps-go/webpubsub/emulator/internal/text"
	"github.com/awps-go/webpubsub/emulator/internal/wire"
)

// clockSkew is the tolerance for a token's nbf and exp.
const clockSkew = 5 * time.Minute

// Claims are the claims that the service reads from a token. The types decode without intermediate values because decoding is
// a considerable part of the cost of a request.
type Claims struct {
	otherClaims // first, and embedded like the others, see its comment
	knownClaims
}

type knownClaims struct {
	Audience  stringList `json:"aud"`
	Expires   timestamp  `json:"exp"`
	NotBefore timestamp  `json:"nbf"`
	IssuedAt  timestamp  `json:"iat"`
	Issuer    string     `json:"iss"`
	Subject   string     `json:"sub"`
	Roles     stringList `json:"role"`
	Groups    stringList `json:"webpubsub.group"`

	// .NET's names for sub and role.
	NameID             firstString `json:"nameid"`
	NameIdentifier     string      `json:"nameidentifier"`
	NameIdentifierLong string      `json:"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"`
	RolesLong          stringList  `json:"http://schemas.microsoft.com/ws/2008/06/identity/claims/role"`
}

// otherClaims receives the claims whose names differ from those of Claims only in case, such as "Role". They belong to the
// application, because the names of claims are case-sensitive. encoding/json is not: it stores a value in the field with exactly
// its name, or else in the first field with its name in any case, which is one of these. Since Go 1.27, the fields of an embedded
// struct come after those of the struct itself, so both are embedded.
type otherClaims struct {
	OtherAud      ignored `json:"AUD"`
	OtherExp      ignored `json:"EXP"`
	OtherNbf      ignored `json:"NBF"`
	OtherIat      ignored `json:"IAT"`
	OtherIss      ignored `json:"ISS"`
	OtherSub      ignored `json:"SUB"`
	OtherRole     ignored `json:"ROLE"`
	OtherGroup    ignored `json:"WEBPUBSUB.GROUP"`
	OtherNameID   ignored `json:"NAMEID"`
	OtherName     ignored `json:"NAMEIDENTIFIER"`
	OtherLongName ignored `json:"HTTP://SCHEMAS.XMLSOAP.ORG/WS/2005/05/IDENTITY/CLAIMS/NAMEIDENTIFIER"`
	OtherLongRole ignored `json:"HTTP://SCHEMAS.MICROSOFT.COM/WS/2008/06/IDENTITY/CLAIMS/ROLE"`
}

// ignored decodes from any JSON, and keeps nothing.
type ignored struct{}

func (*ignored) UnmarshalJSON([]byte) error { return nil }

// User returns the user of a client's token, or "" if there is none.
func (c *Claims) User() string {
	return cmp.Or(c.Subject, string(c.NameID), c.NameIdentifier, c.NameIdentifierLong)
}

// AllRoles returns the roles of a client's token.
func (c *Claims) AllRoles() []string { return slices.Concat(c.Roles, c.RolesLong) }

// The methods of [jwt.Claims].

func (c *Claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires.date() }
func (c *Claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore.date() }
func (c *Claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.IssuedAt.date() }
func (c *Claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings(c.Audience), nil }
func (c *Claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *Claims) GetSubject() (string, error)                  { return c.Subject, nil }

// timestamp is a time in seconds since 1970. 0 means that the claim is absent.
type timestamp float64

func (t timestamp) date() (*jwt.NumericDate, error) {
	if t == 0 {
		return nil, nil
	}
	if math.Abs(float64(t)) > 1<<53 {
		return nil, errors.New("the timestamp is out of range")
	}
	return jwt.NewNumericDate(time.Unix(int64(t), 0)), nil
}

// stringList is a list of strings. In JSON, a single string stands for a list of one.
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

// firstString is a string, or the first one of a list. Any other JSON counts as "".
type firstString string

func (s *firstString) UnmarshalJSON(b []byte) error {
	var all stringList
	if json.Unmarshal(b, &all) == nil && len(all) > 0 {
		*s = firstString(all[0])
	}
	return nil
}

// ErrNoToken is returned if a request has no access token.
var ErrNoToken = errors.New("the request carries no access token")

var errMalformed = errors.New("the access token is malformed")

// Options are the settings of an Authority.
type Options struct {
	Key, SecondaryKey string
	Endpoint          wire.Endpoint
	Now               func() time.Time
	// AcceptBearer, if not nil, reports whether to accept a token of a REST request or of a tunnel that fails verification with
	// the access keys.
	AcceptBearer func(token string) bool
}

// Authority issues and verifies tokens. It may be used by several goroutines.
type Authority struct {
	Options
	keys      atomic.Pointer[keys]
	validator *jwt.Validator
	keyID     string // the kid of the tokens that it issues
}

// New returns an Authority.
func New(o Options) *Authority {
	a := &Authority{Options: o, keyID: rand.Text()}
	a.SetKeys(o.Key, o.SecondaryKey)
	a.validator = jwt.NewValidator(jwt.WithExpirationRequired(), jwt.WithTimeFunc(o.Now), jwt.WithLeeway(clockSkew))
	return a
}

// usualHeader is the header of almost every token: {"alg":"HS256","typ":"JWT"}.
const usualHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

// verify checks a token's signature and times. Callers check the audience. verify does not use jwt.Parser, which builds a map of
// the header for every request. It returns ErrNoToken if the token is empty.
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
	if head.Algorithm != jwt.SigningMethodHS256.Alg() || !a.keys.Load().haveSigned(signed, signature) {
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

// decodeSegment decodes the header or the payload of a token.
func decodeSegment(segment string, v any) error {
	b, err := base64.RawURLEncoding.DecodeString(segment)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// tokenFault returns the reason why a token is rejected, without any of its content.
func tokenFault(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return errors.New("the access token has expired")
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return errors.New("the access token is not valid yet")
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return errors.New("the access token has no expiry")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return errors.New("the access token is not signed with this resource's access key, or not with HS256")
	default:
		return errMalformed
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

// AuthorizeRequest checks the token of a REST request. The audience must cover the URL of the request. AuthorizeRequest returns
// ErrNoToken if the request has no token.
func (a *Authority) AuthorizeRequest(r *http.Request) error {
	token := bearer(r)
	c, err := a.verify(token)
	if err != nil {
		return a.acceptBearer(token, err)
	}
	path := r.RequestURI
	if !strings.HasPrefix(path, "/") { // the absolute form, as sent to a proxy
		path = r.URL.EscapedPath()
	}
	path, _, _ = strings.Cut(path, "?")
	for _, aud := range c.Audience {
		if a.isFor(aud, r.Host, path) {
			return nil
		}
	}
	return errors.New("the audience of the access token is not the URL of the request")
}

// AuthorizeEntra checks the token of a REST request that accepts only tokens of Microsoft Entra ID.
func (a *Authority) AuthorizeEntra(r *http.Request) error {
	token := bearer(r)
	_, err := a.verify(token)
	if err == nil {
		return errors.New("the service accepts :generateToken with tokens of Microsoft Entra ID only: with an access key, " +
			"the client signs client access tokens itself")
	}
	return a.acceptBearer(token, err)
}

// acceptBearer returns nil if AcceptBearer accepts a token that failed verification with err. Otherwise it returns err, and says
// what the option would do or has done.
func (a *Authority) acceptBearer(token string, err error) error {
	switch {
	case token == "":
		return err
	case a.AcceptBearer == nil:
		if errors.Is(err, errMalformed) {
			err = fmt.Errorf("%w: the emulator's option AcceptBearer accepts tokens other than those of access keys", err)
		}
		return err
	case !a.AcceptBearer(token):
		return fmt.Errorf("%w, and the emulator's option AcceptBearer rejects it", err)
	}
	return nil
}

// isFor reports whether an audience covers a path on a host. The audience may name the path itself or a path below it. It is
// compared as it is and decoded once. Its scheme may be http, https, ws or wss, and its query is ignored.
func (a *Authority) isFor(audience, host, path string) bool {
	audiences := []string{audience}
	if decoded, err := url.PathUnescape(audience); err == nil && decoded != audience {
		audiences = append(audiences, decoded)
	}
	paths := []string{path}
	if decoded := decodeButSlashes(path); decoded != path {
		paths = append(paths, decoded)
	}
	for _, aud := range audiences {
		scheme, rest, ok := strings.Cut(aud, "://")
		if scheme = strings.ToLower(scheme); !ok || defaultPort[scheme] == "" {
			continue
		}
		end := strings.IndexAny(rest, "/?#")
		if end < 0 {
			end = len(rest)
		}
		if aud := rest[:end]; !a.isHost(scheme, aud, host) {
			continue
		}
		for _, p := range paths {
			if below, ok := cutPrefixFold(rest[end:], p); ok && (below == "" || below[0] == '/' || below[0] == '?') {
				return true
			}
		}
	}
	return false
}

// defaultPort maps each scheme that an audience may have to its default port.
var defaultPort = map[string]string{"http": ":80", "ws": ":80", "https": ":443", "wss": ":443"}

// isHost reports whether the host in an audience is the request's host or the server's own. They differ behind a reverse proxy
// that forwards the client's Host header.
func (a *Authority) isHost(scheme, audience, host string) bool {
	audience = strings.TrimSuffix(audience, defaultPort[scheme])
	for _, h := range []string{host, a.Endpoint.Host} {
		if strings.EqualFold(audience, strings.TrimSuffix(h, defaultPort[scheme])) {
			return true
		}
	}
	return false
}

// cutPrefixFold is strings.CutPrefix without regard to case.
func cutPrefixFold(s, prefix string) (after string, found bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// decodeButSlashes decodes a path once, except for %2F, like the service. It returns an invalid path with each %2F escaped.
func decodeButSlashes(path string) string {
	path = strings.NewReplacer("%2F", "%252F", "%2f", "%252f").Replace(path)
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return path
	}
	return decoded
}

// queryName is the query parameter of a client's URL that holds the token. Its name is matched without regard to case.
const queryName = "access_token"

// clientToken returns the token of a client's handshake, or "". The query takes precedence over the Authorization header.
func clientToken(r *http.Request) string {
	if token, _ := Query(r.URL, queryName); token != "" {
		return token
	}
	return bearer(r)
}

// Query returns the value of a query parameter. Its name is matched without regard to case. If the parameter occurs several
// times, Query returns the last value.
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

// AuthorizeClient checks the token of a client that connects to a hub. prefix is the path for clients of its kind, such as
// "/client/hubs/". AuthorizeClient returns ErrNoToken if the handshake has no token.
func (a *Authority) AuthorizeClient(r *http.Request, prefix, hub string) (*Claims, error) {
	c, err := a.verify(clientToken(r))
	if err != nil {
		return nil, err
	}
	urls := []string{prefix + hub}
	if prefix == wire.ClientPath {
		urls = append(urls, "/client/?hub="+hub)
	}
	for _, aud := range c.Audience {
		for _, u := range urls {
			if a.isClientURL(aud, r.Host, u) {
				return c, nil
			}
		}
	}
	return nil, errors.New("the audience of the access token is not this hub's client URL")
}

// AuthorizeTunnel checks the token of a server that connects to the tunnel, and returns the token's subject. The audience must
// be the URL of the request with the scheme ws or wss, without the access_token parameter.
func (a *Authority) AuthorizeTunnel(r *http.Request) (subject string, err error) {
	token := clientToken(r)
	c, err := a.verify(token)
	if err != nil {
		return "", a.acceptBearer(token, err)
	}
	query := slices.DeleteFunc(strings.Split(r.URL.RawQuery, "&"), func(pair string) bool { return strings.HasPrefix(pair, queryName+"=") })
	path, wanted := r.URL.EscapedPath()+"?"+strings.Join(query, "&"), strings.Replace(a.Endpoint.Scheme, "http", "ws", 1)
	for _, aud := range c.Audience {
		scheme, rest, _ := strings.Cut(aud, "://")
		at := strings.IndexByte(rest, '/')
		if strings.EqualFold(scheme, wanted) && at >= 0 && strings.EqualFold(rest[at:], path) && a.isHost(wanted, rest[:at], r.Host) {
			return c.Subject, nil
		}
	}
	return "", errors.New("the audience of the access token is not the URL of the tunnel, with " + wanted + " as its scheme")
}

// isClientURL reports whether an audience is the URL of a path on a host. The audience is compared as it is and decoded once.
// Its scheme must be http or https.
func (a *Authority) isClientURL(audience, host, path string) bool {
	decoded, err := url.PathUnescape(audience)
	if err != nil {
		decoded = audience
	}
	for _, aud := range []string{audience, decoded} {
		scheme, rest, _ := strings.Cut(aud, "://")
		if scheme = strings.ToLower(scheme); scheme != "http" && scheme != "https" {
			continue
		}
		at := strings.IndexByte(rest, '/')
		if at >= 0 && strings.EqualFold(rest[at:], path) && a.isHost(scheme, rest[:at], host) {
			return true
		}
	}
	return false
}

// issuer is the iss claim of the tokens that the service issues.
const issuer = "https://webpubsub.azure.com"

// ForClient issues an access token for a client that connects at a path. The token is valid for a number of minutes.
func (a *Authority) ForClient(path, userID string, roles, groups []string, minutes int) (string, error) {
	now := a.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, clientClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    issuer,
			Subject:   userID,
			NotBefore: jwt.NewNumericDate(now),
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(time.Unix(now.Unix()+60*int64(minutes), 0)), // minutes may overflow a Duration
		},
		Audience: a.Endpoint.String() + path,
		Roles:    roles,
		Groups:   groups,
	})
	token.Header["kid"] = a.keyID
	return token.SignedString([]byte(a.keys.Load().primary))
}

// clientClaims are the claims of the tokens that the service issues for clients.
type clientClaims struct {
	jwt.RegisteredClaims
	Audience string   `json:"aud"`
	Roles    []string `json:"role,omitempty"`
	Groups   []string `json:"webpubsub.group,omitempty"`
}

// longClaims are claims and .NET's long names for them. If a token has several claims with the same long name, the first counts.
var longClaims = [...]struct{ name, long string }{
	{"sub", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"},
	{"nameid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"},
	{"role", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"},
}

// ShowClaims returns every claim of a client's token in the form of the connect event. The token must have been verified. The
// result is empty without a token. Like the service, ShowClaims repeats the user and the roles under their long names.
func ShowClaims(r *http.Request) map[string][]string {
	token := clientToken(r)
	if token == "" {
		return map[string][]string{} // an anonymous client
	}
	var all jwt.MapClaims
	if _, _, err := jwt.NewParser(jwt.WithJSONNumber()).ParseUnverified(token, &all); err != nil {
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
	for _, c := range longClaims {
		if values := shown[c.name]; values != nil && shown[c.long] == nil {
			shown[c.long] = values
		}
	}
	return shown
}

// claimText returns a claim's value as text: a string unchanged, anything else as JSON. A number keeps all its digits.
func claimText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	return string(text.JSON(v))
}
