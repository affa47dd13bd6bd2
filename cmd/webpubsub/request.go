package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/spf13/cobra"
)

func newRequest(p *program) *cobra.Command {
	var file, contentType string
	cmd := &cobra.Command{
		Use:   "request METHOD PATH",
		Short: "Send a signed request to the REST API",
		Long: `Send a signed request to the REST API and print the body of the response, for operations that have no command here. PATH
contains the hub, so --hub is ignored. The api-version is added if PATH has none. A status other than 2xx is a failure.
The command rejects generateToken: only "webpubsub token" prints tokens.`,
		Example: `  webpubsub request GET '/api/hubs/chat/groups/room/connections?top=10'`,
		Args:    argumentsOf("request METHOD PATH"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			client, err := p.clientForHub(cmd.ErrOrStderr(), "request")
			if err != nil {
				return err
			}
			var body []byte
			if file != "" {
				if body, err = readFile(cmd, file); err != nil {
					return err
				}
			}
			req, err := http.NewRequestWithContext(cmd.Context(), args[0], args[1], bytes.NewReader(body))
			if err != nil {
				return usageErrorf("%v", err)
			}
			if strings.Contains(strings.ToLower(req.URL.Path), "generatetoken") {
				return usageErrorf("PATH: use webpubsub token to create a token")
			}
			if file != "" {
				req.Header.Set("Content-Type", contentType)
			}
			resp, err := client.SendRequest(cmd.Context(), req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			return printResponse(forTerminal(cmd.OutOrStdout()), resp)
		}),
	}
	cmd.Flags().StringVar(&file, "file", "", "send the content of `FILE` as the body; - is standard input")
	cmd.Flags().StringVar(&contentType, "content-type", "application/json", "the content `TYPE` of the body")
	return cmd
}

// printResponse prints the body of a response. A status other than 2xx is an error.
func printResponse(w io.Writer, resp *http.Response) error {
	if resp.StatusCode/100 == 2 {
		_, err := io.Copy(w, resp.Body)
		return err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxFile))
	if err != nil {
		return err
	}
	if _, err := w.Write(body); err != nil {
		return err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return responseError(resp)
}

// responseError returns the error for a response: its status, the service's error code, and a request id.
func responseError(resp *http.Response) error {
	text := fmt.Sprintf("request: %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if failed, ok := errors.AsType[*azcore.ResponseError](runtime.NewResponseError(resp)); ok && failed.ErrorCode != "" {
		text += ": " + failed.ErrorCode
	}
	if id := resp.Header.Get("x-ms-request-id"); id != "" {
		return fmt.Errorf("%s (request id %s)", text, id)
	}
	return fmt.Errorf("%s (client request id %s)", text, resp.Request.Header.Get("x-ms-client-request-id"))
}
