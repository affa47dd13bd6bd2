package emulator

import (
	"bytes"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// clockSkew is how long after its end the token of a REST request is still accepted.
const clockSkew = 5 * time.Minute

// claims are what the service reads from a token. Its types decode in one go: this is a good part of the work of
// answering a request.
type claims struct {
	Audience  stringList `json:"aud"`
	Expires   timestamp  `json:"exp"`
	NotBefore timestamp  `json:"nbf"`
	IssuedAt  timestamp  `json:"iat"`
	Issuer    string     `json:"iss"`
	Subject   string     `json:"sub"`
	Roles     stringList `json:"role"`
	Groups    stringList `json:"webpubsub.group"`
}

// The methods of [jwt.Claims].

func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return c.Expires.date() }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return c.NotBefore.date() }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return c.IssuedAt.date() }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return jwt.ClaimStrings(c.Audience), nil }
func (c *claims) GetIssuer() (string, error)                   { return c.Issuer, nil }
func (c *claims) GetSubject() (string, error)                  { return c.Subject, nil }

// timestamp is seconds since 1970; 0 is none.
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

// errNoToken is a request that carries none.
var errNoToken = errors.New("the request carries no access token")

// newValidator makes a validator of tokens' times.
func (s *Server) newValidator(leeway time.Duration) *jwt.Validator {
	return jwt.NewValidator(jwt.WithExpirationRequired(), jwt.WithTimeFunc(s.clock.now), jwt.WithLeeway(leeway))
}

// usualHeader is the header of practically every token: {"alg":"HS256","typ":"JWT"}.
const usualHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

// verify checks a token's signature and times; the audience is checked by those who know what it should be. It takes
// a token apart by itself, because jwt.Parser makes a map of the header: every request would pay for that.
func (s *Server) verify(validator *jwt.Validator, token string) (*claims, error) {
	if token == "" {
		return nil, errNoToken
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
		!s.hasSigned(signed, signature) &&
			jwt.SigningMethodHS256.Verify(signed, signature, []byte(s.secondaryKey)) != nil {
		return nil, tokenFault(jwt.ErrTokenSignatureInvalid)
	}
	var c claims
	if decodeSegment(payload, &c) != nil {
		return nil, tokenFault(jwt.ErrTokenMalformed)
	}
	if err := validator.Validate(&c); err != nil {
		return nil, tokenFault(err)
	}
	return &c, nil
}

// hasSigned reports whether a signature is that of the access key, as golang-jwt's HS256 does, which makes the hash behind the
// key anew each time: half of its work.
func (s *Server) hasSigned(text string, signature []byte) bool {
	h := s.hashes.Get().(hash.Hash)
	defer s.hashes.Put(h)
	h.Reset()
	h.Write([]byte(text))
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

// tokenFault says what is wrong with a token, and nothing of what is in it.
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

// authorize checks the token of a REST request.
func (s *Server) authorize(r *http.Request) error {
	token := bearer(r)
	c, err := s.verify(s.restTokens, token)
	if err != nil {
		if token != "" && s.acceptBearer != nil && s.acceptBearer(token) {
			return nil
		}
		return err
	}
	target := r.RequestURI
	if !strings.HasPrefix(target, "/") { // the absolute form, as sent to a proxy
		target = r.URL.RequestURI()
	}
	// The host may be the one the client used or, behind a reverse proxy that keeps the client's, the server's own.
	for _, host := range []string{r.Host, s.host} {
		for _, aud := range c.Audience {
			if sameURL(aud, s.scheme+"://"+host+target) {
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

// authorizeClient checks the token of a client that wants to connect to a hub. prefix is the path under which clients
// of its kind connect, such as "/client/hubs/".
func (s *Server) authorizeClient(r *http.Request, prefix, hub string) (*claims, error) {
	token := r.URL.Query().Get("access_token")
	if token == "" {
		token = bearer(r)
	}
	c, err := s.verify(s.clientTokens, token)
	if err != nil {
		return nil, err
	}
	for _, host := range []string{r.Host, s.host} {
		for _, aud := range c.Audience {
			paths := []string{prefix + hub}
			if prefix == clientPaths["default"] {
				paths = append(paths, "/client/?hub="+hub)
			}
			for _, path := range paths {
				if sameURL(strings.TrimSuffix(aud, "/"), s.scheme+"://"+host+path) {
					return c, nil
				}
			}
		}
	}
	return nil, errors.New("the audience of the access token is not this hub's client URL")
}

// clientToken makes an access token for a client.
func (s *Server) clientToken(path, userID string, roles, groups []string, lifetime time.Duration) (string, error) {
	now := s.clock.now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, clientClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Subject:   userID,
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
		},
		Audience: s.endpoint + path,
		Roles:    roles,
		Groups:   groups,
	}).SignedString([]byte(s.key))
}

// clientClaims are what the service puts into a client's token.
type clientClaims struct {
	jwt.RegisteredClaims
	Audience string   `json:"aud"`
	Roles    []string `json:"role,omitempty"`
	Groups   []string `json:"webpubsub.group,omitempty"`
}

// tokenClaims returns every claim of a client's token, which has been verified, as the connect event shows them.
func tokenClaims(r *http.Request) map[string][]string {
	token := r.URL.Query().Get("access_token")
	if token == "" {
		token = bearer(r)
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
	return string(marshalJSON(v))
}
