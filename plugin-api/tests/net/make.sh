#!/bin/sh
# Makes the files in this folder with OpenSSL 3, the writer of nearly all such files in the world. Kept rather than made
# by each run of the tests, which need no OpenSSL that way. Keys of no worth: they open nothing but these tests.
set -eu
cd "$(dirname "$0")"
openssl ecparam -name prime256v1 -genkey -noout -out ec-sec1.pem
openssl req -x509 -key ec-sec1.pem -days 36500 -subj /CN=localhost -addext subjectAltName=DNS:localhost -out ec.crt
openssl pkcs8 -topk8 -nocrypt -in ec-sec1.pem -out ec-pkcs8.pem
openssl pkcs8 -topk8 -v2 aes-256-cbc -passout pass:tomato -in ec-sec1.pem -out ec-aes.pem
openssl pkcs8 -topk8 -v2 des3 -v2prf hmacWithSHA1 -passout pass:tomato -in ec-sec1.pem -out ec-3des.pem
openssl pkcs8 -topk8 -scrypt -passout pass:tomato -in ec-sec1.pem -out ec-scrypt.pem
openssl pkcs8 -topk8 -v2 aes-128-cbc -v2prf hmacWithSHA384 -passout pass:tomato -in ec-sec1.pem -out ec-aes128.pem
openssl pkcs8 -topk8 -v2 aes-192-cbc -v2prf hmacWithSHA512 -passout pass:tomato -in ec-sec1.pem -out ec-aes192.pem
openssl pkcs8 -topk8 -v2 camellia-256-cbc -passout pass:tomato -in ec-sec1.pem -out ec-camellia.pem
openssl pkcs8 -topk8 -v1 PBE-SHA1-3DES -passout pass:tomato -in ec-sec1.pem -out ec-v1.pem
openssl ec -aes256 -passout pass:tomato -in ec-sec1.pem -out ec-old.pem
openssl ec -aes128 -passout pass:tomato -in ec-sec1.pem -out ec-old-aes128.pem
openssl ec -des3 -passout pass:tomato -in ec-sec1.pem -out ec-old-3des.pem
openssl ec -des -provider legacy -provider default -passout pass:tomato -in ec-sec1.pem -out ec-old-des.pem
openssl ec -camellia256 -passout pass:tomato -in ec-sec1.pem -out ec-old-camellia.pem
openssl pkcs12 -export -passout pass:tomato -inkey ec-sec1.pem -in ec.crt -out ec.p12
openssl pkcs12 -export -legacy -passout pass:tomato -inkey ec-sec1.pem -in ec.crt -out ec-legacy.p12
openssl pkcs12 -export -passout pass:tomato -macalg SHA512 -keypbe PBE-SHA1-RC2-128 -certpbe PBE-SHA1-3DES \
    -legacy -inkey ec-sec1.pem -in ec.crt -out ec-rc2.p12
openssl pkcs12 -export -passout pass:tomäte€ -nomac -inkey ec-sec1.pem -in ec.crt -out ec-nomac.p12
openssl pkcs12 -export -passout pass:tomäte€ -legacy -inkey ec-sec1.pem -in ec.crt -out ec-unicode.p12
openssl pkcs12 -export -passout pass: -keypbe NONE -certpbe NONE -inkey ec-sec1.pem -in ec.crt -out ec-open.p12
openssl pkcs12 -export -nokeys -passout pass:tomato -in ec.crt -out keyless.p12
openssl genrsa -traditional -out rsa-pkcs1.pem 2048
openssl rsa -aes192 -traditional -passout pass:tomato -in rsa-pkcs1.pem -out rsa-old.pem
openssl req -x509 -key rsa-pkcs1.pem -days 36500 -subj /CN=rsa -out rsa.crt
openssl x509 -in rsa.crt -outform DER -out rsa.der
