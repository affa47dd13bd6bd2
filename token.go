package webpubsub

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"hash"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/awps-go/webpubsub/internal/keycredential"
	"github.com/golang-jwt/jwt/v5"
)

// requestTokenLifetime is how long the token of one request is valid. It is an hour, as in the official JavaScript
// and Go SDKs, to tolerate a slow clock. A token is valid for one URL only.
const requestTokenLifetime = time.Hour

const (
	defaultClientTokenLifetime = time.Hour
	minClientTokenLifetime     = time.Minute
)

// accessKey provides the key. The key is fixed (from a connection string), or comes from a credential and can change at
// any time.
type accessKey struct {
	fixed      string
	credential *keycredential.Source // nil for a fixed key

	signers sync.Pool // of *signer
}

// value returns the current key.
func (k *accessKey) value(ctx context.Context) (string, error) {
	if k.credential == nil {
		return k.fixed, nil
	}
	return k.credential.Key(ctx)
}

// takeFrom returns the key for a request. If the credential's policy has put the key into the header, takeFrom removes
// it.
func (k *accessKey) takeFrom(header http.Header) string {
	if k.credential == nil {
		return k.fixed
	}
	key := header.Get(keycredential.Header)
	header.Del(keycredential.Header)
	return key
}

// authorize signs a request for its current URL.
func (c *ServiceClient) authorize(req *http.Request, key string) error {
	s, err := c.key.signer(key)
	if err != nil {
		return err
	}
	defer c.key.signers.Put(s)
	now := time.Now()
	req.Header["Authorization"] = []string{s.authorization(c.endpoint.audience(req.URL), now, now.Add(requestTokenLifetime))}
	return nil
}

// audience returns the URL that the token of a request to u must name: u itself or, for a request to the reverse proxy,
// the service's own URL.
func (e endpoint) audience(u *url.URL) string {
	// The URL is built from its parts because u may have a fragment, which is not sent, or an empty path.
	sent := u.Scheme + "://" + u.Host + cmp.Or(u.EscapedPath(), "/") + "?" + u.RawQuery
	if u.RawQuery == "" && !u.ForceQuery {
		sent = strings.TrimSuffix(sent, "?")
	}
	if rest, ok := strings.CutPrefix(sent, e.target); ok && e.target != e.service {
		return e.service + rest
	}
	return sent
}

// signer is golang-jwt's HS256 for one key. golang-jwt hashes the key again for each token, which takes longer than
// signing the token. A signer is not safe for concurrent use.
type signer struct {
	key     string
	hash    hash.Hash
	claims  []byte
	client  clientClaims // for client access tokens
	token   []byte
	signing []byte
	sum     []byte
}

// signer returns a signer for the key. The caller must put it back into k.signers. The key is empty if the credential's
// Update set an empty key.
func (k *accessKey) signer(key string) (*signer, error) {
	if key == "" {
		return nil, &finalError{errors.New("the credential's key is empty")}
	}
	s, _ := k.signers.Get().(*signer)
	if s == nil || s.key != key {
		s = &signer{key: key, hash: hmac.New(sha256.New, []byte(key))}
	}
	return s, nil
}

// requestHeader is {"alg":"HS256","typ":"JWT"}, encoded once.
var requestHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// authorization returns the Authorization header of one request. This is the only token that we encode by hand. Every
// request needs one, and golang-jwt takes three times as long, mostly to encode JSON by reflection.
func (s *signer) authorization(audience string, issued, expires time.Time) string {
	const prefix = "Bearer "
	s.claims = strconv.AppendInt(append(s.claims[:0], `{"iat":`...), issued.Unix(), 10)
	s.claims = strconv.AppendInt(append(s.claims, `,"exp":`...), expires.Unix(), 10)
	s.claims = append(appendText(append(s.claims, `,"aud":`...), audience), '}')
	s.token = append(append(append(s.token[:0], prefix...), requestHeader...), '.')
	s.token = base64.RawURLEncoding.AppendEncode(s.token, s.claims)
	return s.complete(len(prefix))
}

// complete signs the token that begins at s.token[from], appends the signature, and returns the whole of s.token.
func (s *signer) complete(from int) string {
	signature := s.mac(s.token[from:])
	s.token = base64.RawURLEncoding.AppendEncode(append(s.token, '.'), signature)
	return string(s.token)
}

// appendText appends a JSON string.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			data, _ := marshalJSON(text) // cannot fail for a string
			return append(b, data...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

var _ jwt.SigningMethod = (*signer)(nil)

// Alg implements [jwt.SigningMethod].
func (s *signer) Alg() string { return jwt.SigningMethodHS256.Alg() }

// Sign implements [jwt.SigningMethod]. It ignores the key argument. The result is valid until the next call.
func (s *signer) Sign(signingString string, _ any) ([]byte, error) {
	s.signing = append(s.signing[:0], signingString...)
	return s.mac(s.signing), nil
}

func (s *signer) mac(data []byte) []byte {
	s.hash.Reset()
	s.hash.Write(data)
	s.sum = s.hash.Sum(s.sum[:0])
	return s.sum
}

// Verify implements [jwt.SigningMethod]. It ignores the key argument.
func (s *signer) Verify(signingString string, signature []byte, _ any) error {
	return jwt.SigningMethodHS256.Verify(signingString, signature, []byte(s.key))
}

// GetClientAccessToken returns a token that lets a client connect to the hub until the token expires, and the URL to
// connect to. With an access key, the ServiceClient makes the token without a request. With a TokenCredential, the
// service makes it.
//
// GetClientAccessToken returns [ErrInvalidArgument] if
//   - options.ExpiresIn is less than a minute or, with a TokenCredential, not a whole number of minutes.
//   - options.UserID, a group or a role is not a valid name; see Names in the package documentation.
//   - a role looks like one of the service but is not; see [ClientAccessTokenOptions].
//   - options.JWTHeaders contains alg, or is used with a TokenCredential.
//
// REST: POST /api/hubs/{hub}/:generateToken, with a TokenCredential.
func (c *ServiceClient) GetClientAccessToken(ctx context.Context, options *ClientAccessTokenOptions) (ClientAccessToken, error) {
	const operation = "GetClientAccessToken"
	o := valueOf(options)
	check := request{client: c, operation: operation} // only for its checks
	if check.checkClient() {
		check.checkClientToken(&o)
	}
	if ctx == nil {
		check.reject("ctx", "is nil")
	}
	if check.err != nil {
		return ClientAccessToken{}, check.err
	}
	if err := ctx.Err(); err != nil {
		return ClientAccessToken{}, wrapError(operation, err)
	}

	clientURL := c.clientURLs[o.Protocol]
	if c.key != nil {
		return c.signClientToken(ctx, operation, o, clientURL)
	}
	token, err := c.newHubRequest(operation, http.MethodPost).literal("/:generateToken").generateToken(ctx, o)
	if err != nil {
		return ClientAccessToken{}, err
	}
	return newClientAccessToken("ws" + strings.TrimPrefix(clientURL, "http") + tokenParameter + token), nil
}

const tokenParameter = "?access_token="

// newClientAccessToken returns the token for a URL with the access_token parameter.
func newClientAccessToken(connectURL string) ClientAccessToken {
	base, token, _ := strings.Cut(connectURL, tokenParameter)
	return ClientAccessToken{Token: token, BaseURL: base, URL: connectURL}
}

// checkClientToken rejects invalid options and sets the default lifetime.
func (r *request) checkClientToken(o *ClientAccessTokenOptions) {
	if r.client.clientURLs[o.Protocol] == "" {
		r.reject("options.Protocol", "must be one of the ClientProtocol constants")
	}
	if o.UserID != "" {
		r.check("options.UserID", nameProblem(o.UserID))
	}
	r.checkEach("options.Roles", o.Roles, roleProblem)
	r.checkEach("options.Groups", o.Groups, groupProblem)
	if o.ExpiresIn == 0 {
		o.ExpiresIn = defaultClientTokenLifetime
	}
	if o.ExpiresIn < minClientTokenLifetime {
		r.reject("options.ExpiresIn", "must be at least a minute")
	}
	if _, ok := o.JWTHeaders["alg"]; ok {
		r.reject("options.JWTHeaders", "must not contain alg: tokens are signed with HS256")
	}
	if r.err == nil && r.client.key == nil {
		if len(o.JWTHeaders) > 0 {
			r.reject("options.JWTHeaders", "requires an access key: with a TokenCredential, the service makes the token")
		}
		if o.ExpiresIn%time.Minute != 0 {
			r.reject("options.ExpiresIn", "must be a whole number of minutes with a TokenCredential")
		}
	}
}

// clientClaims are the claims of a client access token. golang-jwt's own type encodes a single audience as a list.
type clientClaims struct {
	jwt.Claims `json:"-"` // nil; signing does not call its methods

	Roles     []string `json:"role,omitempty"`
	Groups    []string `json:"webpubsub.group,omitempty"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`
	Audience  string   `json:"aud"`
	Subject   string   `json:"sub,omitempty"`
}

// signClientToken returns a client access token that is signed with the access key.
func (c *ServiceClient) signClientToken(ctx context.Context, operation string, o ClientAccessTokenOptions, audience string) (ClientAccessToken, error) {
	keys := c.key
	key, err := keys.value(ctx)
	if err != nil {
		return ClientAccessToken{}, wrapError(operation, err)
	}
	s, err := keys.signer(key)
	if err != nil {
		return ClientAccessToken{}, wrapError(operation, err)
	}
	defer keys.signers.Put(s)
	now := time.Now()
	s.client = clientClaims{
		Roles:     o.Roles,
		Groups:    o.Groups,
		IssuedAt:  now.Unix(),
		ExpiresAt: now.Add(o.ExpiresIn).Unix(),
		Audience:  audience,
		Subject:   o.UserID,
	}
	defer func() { s.client = clientClaims{} }()
	token := jwt.NewWithClaims(s, &s.client)
	maps.Copy(token.Header, o.JWTHeaders)
	signingString, err := token.SigningString()
	if err != nil { // only the caller's headers can fail to encode
		return ClientAccessToken{}, &argumentError{operation: operation, argument: "options.JWTHeaders", problem: err.Error(), cause: err}
	}
	s.token = append(append(s.token[:0], "ws"...), strings.TrimPrefix(audience, "http")...)
	s.token = append(s.token, tokenParameter...)
	begin := len(s.token)
	s.token = append(s.token, signingString...)
	return newClientAccessToken(s.complete(begin)), nil
}

// generateToken requests a client access token from the service.
func (r *request) generateToken(ctx context.Context, o ClientAccessTokenOptions) (string, error) {
	if o.UserID != "" {
		r.param("userId", o.UserID)
	}
	for _, role := range o.Roles {
		r.param("role", role)
	}
	for _, group := range o.Groups {
		r.param("group", group)
	}
	r.param("minutesToExpire", strconv.FormatInt(int64(o.ExpiresIn/time.Minute), 10))
	if o.Protocol != ClientProtocolDefault {
		r.param("clientType", string(o.Protocol))
	}
	r.secret = true
	var response struct {
		Token string `json:"token"`
	}
	err := r.json(ctx, &response, func() error {
		if response.Token == "" {
			return errors.New("the response has no token")
		}
		return nil
	})
	return response.Token, err
}
