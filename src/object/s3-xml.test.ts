import assert from 'node:assert/strict';
import { test } from 'node:test';
import { elementText, parseListPage } from './s3-xml.ts';
import { ObjectError } from './store.ts';

test('a page of a listing is read, keys decoded', () => {
  const page = parseListPage(`<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
    <Name>b</Name><IsTruncated>true</IsTruncated><EncodingType>url</EncodingType><NextContinuationToken>a&amp;b==</NextContinuationToken>
    <Contents><Key>a%2Bb+c%26</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified><Size>7</Size></Contents>
    <Contents><Key>z</Key><Size>0</Size></Contents></ListBucketResult>`);
  assert.deepEqual(page, {
    objects: [
      { key: 'a+b c&', size: 7, modified: Date.UTC(2026, 0, 2, 3, 4, 5) },
      { key: 'z', size: 0, modified: 0 },
    ],
    next: 'a&b==',
  });
});

test('without url encoding, entities are what is undone', () => {
  const page = parseListPage(
    '<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a+&lt;&#x41;&#66;%20</Key><Size>1</Size></Contents></ListBucketResult>',
  );
  assert.deepEqual(page, { objects: [{ key: 'a+<AB%20', size: 1, modified: 0 }], next: undefined });
});

test('an answer that is cut off, or is another document, is an error and not an empty listing', () => {
  for (const text of [
    '',
    '<html></html>',
    '<ListBucketResult><Contents><Key>a</Key><Size>1</Size></Contents>',
    '<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>',
    '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>',
  ])
    assert.throws(() => parseListPage(text), ObjectError, text);
});

test('the code of an error is found', () => {
  assert.equal(elementText('<Error><Code>NoSuchKey</Code><Message>x</Message></Error>', 'Code'), 'NoSuchKey');
  assert.equal(elementText('nothing', 'Code'), undefined);
});
