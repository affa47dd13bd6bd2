package webpubsub

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"hash"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/awps-go/webpubsub/internal/keycredential"
	"github.com/golang-jwt/jwt/v5"
)

// requestTokenLifetime is how long the token of one request is valid: an hour, as in the official JavaScript and Go
// SDKs, so that a clock which is behind does not matter. The token is good for the one URL.
const requestTokenLifetime = time.Hour

const (
	defaultClientTokenLifetime = time.Hour
	minClientTokenLifetime     = time.Minute
)

// accessKey is where the key comes from: a connection string, or a credential whose key may change at any time.
type accessKey struct {
	fixed      string
	credential *keycredential.Source // nil for a fixed key

	signers sync.Pool // of *signer
}

// value returns the key as it is now.
func (k *accessKey) value(ctx context.Context) (string, error) {
	if k.credential == nil {
		return k.fixed, nil
	}
	return k.credential.Key(ctx)
}

// take returns the key for a request, and takes it off if the credential's policy has put it there.
func (k *accessKey) take(header http.Header) string {
	if k.credential == nil {
		return k.fixed
	}
	key := header.Get(keycredential.Header)
	header.Del(keycredential.Header)
	return key
}

// authorize signs a request for its URL as it is now.
func (c *ServiceClient) authorize(req *http.Request, key string) error {
	s, err := c.key.signer(key)
	if err != nil {
		return err
	}
	defer c.key.signers.Put(s)
	now := time.Now()
	authorization, err := s.sign("Bearer ", tokenHeader, claims{
		IssuedAt:  now.Unix(),
		ExpiresAt: now.Add(requestTokenLifetime).Unix(),
		Audience:  c.endpoint.audience(req.URL),
	})
	if err != nil {
		return err
	}
	req.Header["Authorization"] = []string{authorization}
	return nil
}

// audience is the service's own URL for a request that goes to u, which is behind the reverse proxy if there is one.
func (e endpoint) audience(u *url.URL) string {
	// A redirect may have led to a URL without a path, or with a fragment, which is not sent.
	sent := u.Scheme + "://" + u.Host + cmp.Or(u.EscapedPath(), "/") + "?" + u.RawQuery
	if u.RawQuery == "" && !u.ForceQuery {
		sent = strings.TrimSuffix(sent, "?")
	}
	if rest, ok := strings.CutPrefix(sent, e.target); ok && e.target != e.service {
		return e.service + rest
	}
	return sent
}

// tokenHeader is {"alg":"HS256","typ":"JWT"}, encoded once.
var tokenHeader = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`))

// claims are those of a token, in the order in which the JavaScript SDK writes them. The tokens of requests hold the three in
// the middle.
type claims struct {
	Roles     []string `json:"role,omitempty"`
	Groups    []string `json:"webpubsub.group,omitempty"`
	IssuedAt  int64    `json:"iat"`
	ExpiresAt int64    `json:"exp"`
	Audience  string   `json:"aud"`
	Subject   string   `json:"sub,omitempty"`
}

// appendJSON appends what marshalJSON makes of the claims, in less time: it is done for every request.
func (c *claims) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = appendList(b, `"role":[`, c.Roles)
	b = appendList(b, `"webpubsub.group":[`, c.Groups)
	b = strconv.AppendInt(append(b, `"iat":`...), c.IssuedAt, 10)
	b = strconv.AppendInt(append(b, `,"exp":`...), c.ExpiresAt, 10)
	b = appendText(append(b, `,"aud":`...), c.Audience)
	if c.Subject != "" {
		b = appendText(append(b, `,"sub":`...), c.Subject)
	}
	return append(b, '}')
}

// appendList appends a list with its name, and a comma; nothing if it is empty.
func appendList(b []byte, name string, list []string) []byte {
	for i, item := range list {
		if i == 0 {
			b = append(b, name...)
		}
		b = append(appendText(b, item), ',')
	}
	if len(list) > 0 {
		b[len(b)-1] = ']'
		b = append(b, ',')
	}
	return b
}

// appendText appends a JSON string.
func appendText(b []byte, text string) []byte {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			data, _ := marshalJSON(text) // a string always can
			return append(b, data...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}

// signer makes one token after another. It is golang-jwt's HS256 for one key: golang-jwt's own makes the hash behind the key
// anew for each token, which takes longer than to sign one. What else it keeps between tokens is for speed too.
type signer struct {
	key     string
	hash    hash.Hash
	claims  []byte
	token   []byte
	signing []byte
	sum     []byte
}

// signer returns one for the key, to be put back. An empty key is what a credential's Update has left.
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

// sign makes a JWT of an encoded header and claims, behind a prefix.
func (s *signer) sign(prefix, header string, c claims) (string, error) {
	s.claims = c.appendJSON(s.claims[:0])
	s.token = append(append(append(s.token[:0], prefix...), header...), '.')
	s.token = base64.RawURLEncoding.AppendEncode(s.token, s.claims)
	signature, err := s.Sign(string(s.token[len(prefix):]), nil)
	if err != nil {
		return "", err
	}
	s.token = base64.RawURLEncoding.AppendEncode(append(s.token, '.'), signature)
	return string(s.token), nil
}

var _ jwt.SigningMethod = (*signer)(nil)

// Alg is as in [jwt.SigningMethod].
func (s *signer) Alg() string { return jwt.SigningMethodHS256.Alg() }

// Sign is as in [jwt.SigningMethod], by the signer's own key. What it returns is good until it is called again.
func (s *signer) Sign(signingString string, _ any) ([]byte, error) {
	s.hash.Reset()
	s.signing = append(s.signing[:0], signingString...)
	s.hash.Write(s.signing)
	s.sum = s.hash.Sum(s.sum[:0])
	return s.sum, nil
}

// Verify is as in [jwt.SigningMethod], by the signer's own key.
func (s *signer) Verify(signingString string, signature []byte, _ any) error {
	return jwt.SigningMethodHS256.Verify(signingString, signature, []byte(s.key))
}

// GetClientAccessToken makes a token with which one client can connect to the hub, and the URL to connect to. With an
// access key it is made here, without a request; with a TokenCredential the service makes it.
//
// REST: POST /api/hubs/{hub}/:generateToken, with a TokenCredential.
func (c *ServiceClient) GetClientAccessToken(ctx context.Context, options *ClientAccessTokenOptions) (ClientAccessToken, error) {
	o := valueOf(options)
	r := c.newHubRequest("GetClientAccessToken", http.MethodPost).literal("/:generateToken")
	var path string
	switch o.Protocol {
	case ClientProtocolDefault:
		path = "/client/hubs/"
	case ClientProtocolMQTT:
		path = "/clients/mqtt/hubs/"
	case ClientProtocolSocketIO:
		path = "/clients/socketio/hubs/"
	default:
		r.refuse("options.Protocol", "is none of the package's")
	}
	r.checkClientToken(&o)
	if ctx == nil {
		r.refuse("ctx", "is nil")
	}
	if r.err != nil {
		return ClientAccessToken{}, r.err
	}
	if err := ctx.Err(); err != nil {
		return ClientAccessToken{}, wrapError(r.operation, err)
	}

	var token string
	var err error
	audience := c.endpoint.client + path + c.hub
	if c.key != nil {
		token, err = r.signClientToken(ctx, o, audience)
	} else {
		token, err = r.generateToken(ctx, o)
	}
	if err != nil {
		return ClientAccessToken{}, err
	}
	base := "ws" + strings.TrimPrefix(audience, "http")
	return ClientAccessToken{Token: token, BaseURL: base, URL: base + "?access_token=" + token}, nil
}

// checkClientToken refuses what would make a token that cannot work, and fills in the default lifetime.
func (r *request) checkClientToken(o *ClientAccessTokenOptions) {
	if !utf8.ValidString(o.UserID) {
		r.refuse("options.UserID", "is not valid UTF-8")
	}
	for i, role := range o.Roles {
		switch {
		case role == "" || slices.Contains(rolesOfNoGroup, role):
			r.refuse("options.Roles["+strconv.Itoa(i)+"]", "is empty or names no group")
		case !utf8.ValidString(role):
			r.refuse("options.Roles["+strconv.Itoa(i)+"]", "is not valid UTF-8")
		}
	}
	for i, group := range o.Groups {
		r.checkGroup("options.Groups["+strconv.Itoa(i)+"]", group)
	}
	if o.ExpiresIn == 0 {
		o.ExpiresIn = defaultClientTokenLifetime
	}
	if o.ExpiresIn < minClientTokenLifetime {
		r.refuse("options.ExpiresIn", "is under a minute")
	}
	if _, ok := o.JWTHeaders["alg"]; ok {
		r.refuse("options.JWTHeaders", "must not hold alg: tokens are signed with HS256")
	}
	if r.err == nil && r.client.key == nil {
		if len(o.JWTHeaders) > 0 {
			r.refuse("options.JWTHeaders", "needs an access key: with a TokenCredential the service makes the token")
		}
		if o.ExpiresIn%time.Minute != 0 {
			r.refuse("options.ExpiresIn", "is not whole minutes, in which the service takes it")
		}
	}
}

// rolesOfNoGroup are what the functions for roles make of an empty group or pattern.
var rolesOfNoGroup = []string{RoleSendToGroup(""), RoleJoinLeaveGroup(""), RoleSendToGroups(""), RoleJoinLeaveGroups("")}

func (r *request) signClientToken(ctx context.Context, o ClientAccessTokenOptions, audience string) (string, error) {
	header := tokenHeader
	if len(o.JWTHeaders) > 0 {
		headers := map[string]any{"typ": "JWT"}
		for name, value := range o.JWTHeaders {
			headers[name] = value
		}
		headers["alg"] = jwt.SigningMethodHS256.Alg()
		encoded, err := json.Marshal(headers)
		if err != nil {
			return "", &argumentError{operation: r.operation, argument: "options.JWTHeaders", problem: err.Error(), cause: err}
		}
		header = base64.RawURLEncoding.EncodeToString(encoded)
	}
	keys := r.client.key
	key, err := keys.value(ctx)
	if err != nil {
		return "", wrapError(r.operation, err)
	}
	s, err := keys.signer(key)
	if err != nil {
		return "", wrapError(r.operation, err)
	}
	defer keys.signers.Put(s)
	now := time.Now()
	return s.sign("", header, claims{
		Roles:     o.Roles,
		Groups:    o.Groups,
		IssuedAt:  now.Unix(),
		ExpiresAt: now.Add(o.ExpiresIn).Unix(),
		Audience:  audience,
		Subject:   o.UserID,
	})
}

// generateToken asks the service for a token.
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
	var answer struct {
		Token string `json:"token"`
	}
	if err := r.json(ctx, &answer); err != nil {
		return "", err
	}
	if answer.Token == "" {
		return "", wrapError(r.operation, errors.New("the service's answer holds no token"))
	}
	return answer.Token, nil
}
