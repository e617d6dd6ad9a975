//go:build tools

// Package tools names the program that the script h2spec builds from this module's pinned versions.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
